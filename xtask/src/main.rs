//! `cargo run -p xtask -- dist`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// Work on the tree that cargo doesn't do
#[derive(Debug, Parser)]
enum Task {
    /// Build the packages of a release in target/dist
    Dist {
        /// Pack this goloo, which must run on this machine, instead of building one
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Task::Dist { binary } = Task::parse();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    match xtask::dist::run(workspace, binary.as_deref()) {
        Ok(files) => {
            files.iter().for_each(|file| println!("{}", file.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
