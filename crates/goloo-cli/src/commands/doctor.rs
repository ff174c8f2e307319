//! `goloo doctor`

use goloo::actions::{Diagnosis, RefreshReport};
use goloo_model::check::Check;
use goloo_model::hint::Hint;

use super::checks;
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, _: &Args) -> Result<u8, CliError> {
    let checks: Vec<Check> = app.session.diagnose().into_iter().flat_map(findings_of).collect();
    if app.ui.json() {
        app.ui.result(&json::Diagnosis::from(&*checks));
    } else {
        checks.iter().for_each(|check| checks::print(app, check));
    }
    Ok(if checks.iter().all(|check| check.is_ok()) { exit::DONE } else { exit::FAILED })
}

fn findings_of(diagnosis: Diagnosis) -> Vec<Check> {
    match diagnosis {
        Diagnosis::Check(check) => vec![check],
        Diagnosis::Failed(error) => vec![failed(error.into())],
        Diagnosis::InProgress { name, kind, owner } => {
            let by = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
            vec![Check::notice(format!("{name}: {kind} in progress{by}"), Hint::default())]
        }
        Diagnosis::Interrupted { name, kind } => vec![Check::failed(
            format!("{name}: {kind} was interrupted"),
            format!("run `goloo resume {name}` to continue, or `goloo delete {name}`"),
        )],
        Diagnosis::Machines(report) => of_machines(*report),
        Diagnosis::Recovered { name, broken } => vec![Check::failed(
            format!("{} is broken ({}); its previous copy is used", broken.path, broken.error),
            format!("run an operation on it, such as `goloo restart {name}`, to write the record again"),
        )],
    }
}

fn of_machines(mut report: RefreshReport) -> Vec<Check> {
    let unasked = std::mem::take(&mut report.unasked).into_iter();
    let unasked: Vec<_> = unasked.map(|(kind, error)| (kind, error.into())).collect();
    checks::of_report(&report, &unasked)
}

/// A check that can't run is a finding too.
fn failed(error: CliError) -> Check {
    let why = error.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
    Check::failed(format!("{}{why}", error.message), error.hint)
}
