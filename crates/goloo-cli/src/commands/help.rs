//! `goloo help`: its arguments. clap answers it as `--help` of the command that is named.

use clap_complete::engine::ArgValueCandidates;

use crate::complete;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command, with its subcommand if it has one; by default an overview
    #[arg(value_name = "COMMAND", add = ArgValueCandidates::new(complete::commands))]
    pub words: Vec<String>,
}
