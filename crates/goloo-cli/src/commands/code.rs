//! `goloo code`

use std::ffi::{OsStr, OsString};

use goloo_model::name::VmName;
use goloo_model::url_path::url_path;

use super::{program, ssh_config};
use crate::app::App;
use crate::error::CliError;
use crate::options::VmArg;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// A folder in the VM, as an absolute path
    path: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let words = words(&name, args.path.as_deref())?;
    if goloo_command::find_program(OsStr::new("code")).is_none() {
        return Err(CliError::failed(
            "the command \"code\" of VS Code is not installed",
            "install VS Code; on macOS, also run its command \"Shell Command: Install 'code' command in PATH\"",
        ));
    }
    app.session.expect_reachable(&name)?;
    ssh_config::expect_host_block(app, &name)?;
    Err(program::become_program(&words))
}

/// VS Code's command line for a folder of a VM, or for a window without a folder.
fn words(name: &VmName, path: Option<&str>) -> Result<Vec<OsString>, CliError> {
    let remote = format!("ssh-remote+{name}");
    let words = match path {
        None => ["code".to_owned(), "--remote".to_owned(), remote],
        Some(path) if path.starts_with('/') => {
            let uri = format!("vscode-remote://{remote}{}", url_path(path.as_bytes()));
            ["code".to_owned(), "--folder-uri".to_owned(), uri]
        }
        Some(path) => {
            return Err(CliError::usage(
                format!("\"{path}\" is not an absolute path in the VM"),
                format!("goloo code {name} /home/USER/FOLDER"),
            ));
        }
    };
    Ok(words.map(OsString::from).to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_opened_by_its_uri() {
        let name = VmName::parse("devbox").unwrap();
        let last = |path| words(&name, path).unwrap().pop().unwrap();
        assert_eq!(last(None), "ssh-remote+devbox");
        assert_eq!(
            last(Some("/srv/a b/ä%#?")),
            "vscode-remote://ssh-remote+devbox/srv/a%20b/%C3%A4%25%23%3F"
        );
        for path in ["src", "~/src", ""] {
            words(&name, Some(path)).unwrap_err();
        }
    }
}
