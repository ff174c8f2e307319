//! `goloo refresh`

use clap_complete::engine::ArgValueCandidates;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::provider::Orphan;
use goloo_model::provider_id::ProviderId;

use super::{checks, delete, which};
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these VMs; by default all VMs, and unmanaged machines
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::vm_names))]
    names: Vec<String>,
    /// Show machines that goloo did not create too
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let names = which::distinct(app, &args.names)?;
    let mut report = match names.is_empty() {
        true => app.session.refresh_all()?,
        false => app.session.refresh(&names)?,
    };
    let mut ended: Vec<(VmName, ArchiveId)> = Vec::new();
    for record in report.take_expired(&app.session) {
        ended.push((record.name.clone(), delete::remove(app, &record)?));
    }
    let unasked = std::mem::take(&mut report.unasked).into_iter();
    let unasked: Vec<(ProviderId, CliError)> = unasked.map(|(kind, error)| (kind, error.into())).collect();
    let checks = checks::of_report(&report, &unasked);
    let code = if checks.is_empty() { exit::DONE } else { exit::FAILED };
    if app.ui.json() {
        let unasked = unasked.into_iter().map(|(kind, error)| (kind, error.message)).collect();
        app.ui.result(&json::Refreshed::new(&report, args.all, unasked, &ended));
        return Ok(code);
    }
    for (name, id) in &ended {
        app.ui.line(&format!("the TTL of {name} has expired; the archived record is {id}"));
    }
    checks.iter().for_each(|check| checks::print(app, check));
    if args.all {
        report.others().for_each(|(kind, orphan)| app.ui.line(&not_ours(kind, orphan)));
    }
    for (name, place) in &report.elsewhere {
        app.ui.note(&format!("{name} belongs to {place} and is skipped"));
    }
    if checks.is_empty() {
        app.ui.line(&format!("{} VMs, all match their records", report.observed.len()));
    }
    Ok(code)
}

fn not_ours(kind: ProviderId, orphan: &Orphan) -> String {
    format!("  {} ({kind}, {}) is {}, not created by goloo", orphan.name, orphan.id, orphan.state)
}
