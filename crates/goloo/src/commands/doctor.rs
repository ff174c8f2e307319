//! `goloo doctor`

use std::os::unix::fs::PermissionsExt;

use goloo_core::finding::Finding;
use goloo_core::name::VmName;
use rustix::fs::Access;
use serde_json::json;

use super::refresh::Reality;
use crate::app::App;
use crate::error::CliError;
use crate::observe;
use crate::output::Style;
use crate::{args, exit, state_id};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, _: &Args) -> Result<u8, CliError> {
    let mut findings = tools(app).unwrap_or_else(not_looked_at);
    findings.extend(aws(app));
    findings.push(state_folder(app));
    findings.extend(state_id::read(&app.paths.state).err().into_iter().flat_map(not_looked_at));
    findings.extend(state_id::read_key(&app.paths.state).err().into_iter().flat_map(not_looked_at));
    findings.extend(place(app).unwrap_or_else(not_looked_at));
    findings.extend(records(app).unwrap_or_else(not_looked_at));
    let sound = findings.iter().all(|finding| finding.ok);
    if app.ui.json() {
        let list = findings.iter().map(|f| json!({"ok": f.ok, "what": f.what, "hint": f.hint}));
        app.ui.result(json!({"findings": list.collect::<Vec<_>>()}));
    } else {
        findings.iter().for_each(|finding| print(app, finding));
    }
    Ok(if sound { exit::DONE } else { exit::FAILED })
}

/// What can't be looked at is a finding too: the rest is still worth knowing.
fn not_looked_at(error: CliError) -> Vec<Finding> {
    let why = error.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
    vec![Finding::wrong(format!("{}{why}", error.message), error.hint)]
}

/// Shows what was found, and what to do.
pub fn print(app: &App, finding: &Finding) {
    let (style, mark) = if finding.ok { (Style::Green, "✓") } else { (Style::Red, "✗") };
    app.ui.marked_line(style, mark, &finding.what);
    if !finding.hint.is_empty() {
        app.ui.line(&format!("  hint: {}", finding.hint));
    }
}

fn tools(app: &App) -> Result<Vec<Finding>, CliError> {
    let mut findings = goloo_qemu::doctor(&app.qemu_settings()?);
    findings.push(app.wait_for(goloo_multipass::doctor(&app.multipass_settings()?)));
    findings.push(match std::process::Command::new("ssh").arg("-V").output() {
        Ok(output) => Finding::sound(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Finding::wrong(
            format!("ssh can't be run: {error}"),
            goloo_command::shortage_hint(&error)
                .unwrap_or("install the OpenSSH client (Debian: apt-get install openssh-client)"),
        ),
    });
    Ok(findings)
}

#[cfg(feature = "aws")]
fn aws(app: &App) -> Vec<Finding> {
    app.wait_for(async { goloo_aws::doctor(&goloo_aws::Settings::from_env().await).await })
}

#[cfg(not(feature = "aws"))]
fn aws(_: &App) -> Vec<Finding> {
    Vec::new()
}

fn state_folder(app: &App) -> Finding {
    let state = &app.paths.state;
    let shown = state.display();
    match std::fs::metadata(state) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::sound(format!("state will be kept in {shown}, which is made on first use"))
        }
        Err(error) => Finding::wrong(
            format!("{shown} can't be read: {error}"),
            format!("check who owns it: ls -ld {shown}"),
        ),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Finding::wrong(
            format!("{shown} can be read by others, and cloud-init files hold secrets"),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => match rustix::fs::access(state, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::sound(format!("state is kept in {shown}")),
            Err(error) => Finding::wrong(
                format!("{shown} can't be written, so VMs are only shown: {error}"),
                format!("check who owns it: ls -ld {shown}; GOLOO_STATE_DIR names another folder"),
            ),
        },
    }
}

/// Where the records are, when that isn't the state folder.
fn place(app: &App) -> Result<Vec<Finding>, CliError> {
    let (home, paths) = (&app.paths.home, &app.paths);
    let (backend, seal) = (app.settings.backend(home)?, app.settings.seal(home)?);
    app.wait_for(backend.examine(paths, seal))
}

fn records(app: &App) -> Result<Vec<Finding>, CliError> {
    let listing = observe::records(app)?;
    let mut findings = vec![Finding::sound(format!("{} VMs on record", listing.entries.len()))];
    for vm in listing.entries.iter().filter(|vm| vm.operation.is_some()) {
        findings.push(Finding::wrong(
            format!("{} is {} and has an operation that isn't finished", vm.name, vm.phase),
            format!("if nobody works on it: goloo resume {0}, or goloo delete {0}", vm.name),
        ));
    }
    let names: Vec<VmName> = listing.entries.iter().map(|vm| vm.name.clone()).collect();
    findings.extend(Reality::of_all(app, listing).findings());
    findings.extend(recovered(app, &names)?);
    Ok(findings)
}

fn recovered(app: &App, names: &[VmName]) -> Result<Vec<Finding>, CliError> {
    let mut findings = Vec::new();
    for name in names {
        let loaded = app.local(app.store.load(name))?;
        if let Some(broken) = loaded.and_then(|loaded| loaded.recovered) {
            findings.push(Finding::wrong(
                format!("{} is broken ({}); its previous copy is used", broken.path, broken.error),
                format!("the next operation on it (goloo restart {name}, say) writes it anew"),
            ));
        }
    }
    Ok(findings)
}
