//! `goloo help`: its arguments. clap answers it as `--help` of the command that is named.

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command, with its subcommand if it has one; by default an overview
    #[arg(value_name = "COMMAND")]
    pub words: Vec<String>,
}
