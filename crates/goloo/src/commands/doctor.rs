//! `goloo doctor`

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use goloo_core::name::VmName;
use goloo_core::store::Store;
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::output::Style;
use crate::{args, exit};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    json: args::Json,
}

/// One thing that was looked at.
struct Finding {
    sound: bool,
    what: String,
    /// What to do; empty when all is well.
    hint: String,
}

impl Finding {
    fn sound(what: impl Into<String>) -> Self {
        Self { sound: true, what: what.into(), hint: String::new() }
    }

    fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { sound: false, what: what.into(), hint: hint.into() }
    }
}

pub fn run(app: &App, _: &Args) -> Result<u8, CliError> {
    let mut findings = tools(app)?;
    findings.extend(aws(app));
    findings.push(state_folder(app));
    findings.extend(records(app)?);
    let sound = findings.iter().all(|finding| finding.sound);
    if app.ui.json() {
        let list = findings.iter().map(|f| json!({"ok": f.sound, "what": f.what, "hint": f.hint}));
        app.ui.result(json!({"findings": list.collect::<Vec<_>>()}));
    } else {
        findings.iter().for_each(|finding| print(app, finding));
    }
    Ok(if sound { exit::DONE } else { exit::FAILED })
}

fn print(app: &App, finding: &Finding) {
    let mark =
        if finding.sound { app.ui.paint(Style::Green, "✓") } else { app.ui.paint(Style::Red, "✗") };
    app.ui.line(&format!("{mark} {}", finding.what));
    if !finding.hint.is_empty() {
        app.ui.line(&format!("  hint: {}", finding.hint));
    }
}

fn tools(app: &App) -> Result<Vec<Finding>, CliError> {
    let mut findings: Vec<Finding> = goloo_qemu::doctor(&app.qemu_settings()?)
        .into_iter()
        .map(|finding| Finding { sound: finding.ok, what: finding.what, hint: finding.hint })
        .collect();
    findings.push(match std::process::Command::new("ssh").arg("-V").output() {
        Ok(output) => Finding::sound(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Finding::wrong(
            format!("ssh can't be run: {error}"),
            "install the OpenSSH client (Debian: apt-get install openssh-client)",
        ),
    });
    Ok(findings)
}

#[cfg(feature = "aws")]
fn aws(app: &App) -> Vec<Finding> {
    let found = app.wait_for(async { goloo_aws::doctor(&goloo_aws::Settings::from_env().await).await });
    found
        .into_iter()
        .map(|finding| Finding { sound: finding.ok, what: finding.what, hint: finding.hint })
        .collect()
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
        Ok(_) => Finding::sound(format!("state is kept in {shown}")),
    }
}

fn records(app: &App) -> Result<Vec<Finding>, CliError> {
    let listing = app.local(app.store.list())?;
    let mut findings = vec![Finding::sound(format!("{} VMs on record", listing.entries.len()))];
    for broken in &listing.broken {
        findings.push(Finding::wrong(
            format!("the record at {} is broken: {}", broken.path, broken.error),
            "restore state.json there from a backup; nothing of it is touched until then",
        ));
    }
    for vm in listing.entries.iter().filter(|vm| vm.operation) {
        findings.push(Finding::wrong(
            format!("{} is {} and has an operation that isn't finished", vm.name, vm.phase),
            format!("if nobody works on it: goloo resume {0}, or goloo delete {0}", vm.name),
        ));
    }
    let known: BTreeSet<String> = listing.entries.iter().map(|vm| vm.id.to_string()).collect();
    findings.extend(machines_without_record(app, &known, listing.broken.is_empty()));
    findings.extend(recovered(app, &listing.entries.iter().map(|vm| vm.name.clone()).collect::<Vec<_>>())?);
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

/// Folders of machines that no record leads to. With broken records about, one of them may.
fn machines_without_record(app: &App, known: &BTreeSet<String>, all_readable: bool) -> Vec<Finding> {
    let folder = app.paths.state.join("vms");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strays = names.filter(|name| !known.contains(name) && goloo_core::name::VmId::parse(name).is_ok());
    let hint = |name: &str| match all_readable {
        true => format!("rm -r {}, when you are sure that no goloo is at work", folder.join(name).display()),
        false => "a broken record may lead to it: mend that first".to_owned(),
    };
    strays
        .map(|name| {
            Finding::wrong(
                format!("no record leads to the machine in {}", folder.join(&name).display()),
                hint(&name),
            )
        })
        .collect()
}
