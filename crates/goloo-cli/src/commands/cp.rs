//! `goloo cp`

use clap_complete::engine::ArgValueCompleter;
use goloo::actions::{CopyPath, Route};
use goloo_model::provider::GuestRequest;

use super::program;
use crate::app::App;
use crate::complete;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Copy folders recursively
    #[arg(short, long)]
    recursive: bool,
    /// The source: a local path, or NAME:PATH in a VM
    #[arg(add = ArgValueCompleter::new(complete::copy_paths))]
    from: String,
    /// The destination: a local path, or NAME:PATH in a VM
    #[arg(add = ArgValueCompleter::new(complete::copy_paths))]
    to: String,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let recursive = args.recursive;
    let (name, from, to, request) = match (remote(&args.from), remote(&args.to)) {
        (Some((name, from)), None) => {
            let request = GuestRequest::Download { from, to: &args.to, recursive };
            (name, CopyPath::Guest(from), CopyPath::Here(&args.to), request)
        }
        (None, Some((name, to))) => {
            let request = GuestRequest::Upload { from: &args.from, to, recursive };
            (name, CopyPath::Here(&args.from), CopyPath::Guest(to), request)
        }
        _ => {
            return Err(CliError::usage(
                "one path must be in a VM and the other on this computer",
                "write `goloo cp ./file devbox:/tmp/` or `goloo cp devbox:/etc/motd .`",
            ));
        }
    };
    let words = match app.session.route(&app.session.vm_of_word(name)?, request)? {
        Route::Ssh(record, target) => app.session.scp_command(&record, &target, (from, to), recursive)?,
        Route::Native(words) => words,
    };
    Err(program::become_program(&words))
}

/// `NAME:PATH`; a path with a slash before the colon is local.
fn remote(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::remote;

    #[test]
    fn the_vm_name_precedes_the_colon() {
        assert_eq!(remote("devbox:/tmp/x"), Some(("devbox", "/tmp/x")));
        assert_eq!(remote("devbox:"), Some(("devbox", "")));
        for here in ["file", "./a:b", "/tmp/a:b", ":x", "a.b:c"] {
            assert_eq!(remote(here), None, "{here}");
        }
    }
}
