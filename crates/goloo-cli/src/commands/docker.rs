//! `goloo docker`

use goloo::actions::DockerContext;

use super::ssh_config;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::options::VmArg;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// Remove the context
    #[arg(long)]
    rm: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    if args.rm {
        let was_there = app.session.remove_docker_context(&name)?;
        let what = if was_there { "removed the Docker context" } else { "there is no Docker context" };
        app.ui.line(&format!("{what} of {name}"));
        return Ok(exit::DONE);
    }
    app.session.expect_docker()?;
    ssh_config::expect_host_block(app, &name)?;
    let DockerContext { name: context, is_new } = app.session.create_docker_context(&name)?;
    let done = if is_new { "created the Docker context" } else { "it already has the Docker context" };
    app.ui.line(&format!("{done} {context}"));
    app.ui.line(&format!("  once     docker --context {context} ps"));
    app.ui.line(&format!("  always   docker context use {context}"));
    app.ui.note("the VM needs Docker, and its login user has to be in the group \"docker\"");
    Ok(exit::DONE)
}
