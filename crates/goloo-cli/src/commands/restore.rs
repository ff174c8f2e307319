//! `goloo restore`

use clap_complete::engine::ArgValueCandidates;
use goloo_model::name::SnapshotLabel;

use super::ask::Question;
use super::snapshot::NO_WAIT;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The snapshot; `goloo snapshot NAME --list` shows them
    #[arg(add = ArgValueCandidates::new(complete::snapshot_labels))]
    label: String,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (name, label) = (args.vm.of(app)?, SnapshotLabel::parse(&args.label)?);
    let vm = app.session.managed(&name)?;
    if !args.yes {
        let question = Question {
            asks: "restore asks for confirmation, since it replaces the current disk",
            lost: vec![format!(
                "Everything that {name} has written since the snapshot {label} will be lost."
            )],
            question: "Restore?",
            words: None,
            declined: "nothing was restored",
            again: format!("goloo restore --yes {name} {label}"),
        };
        question.ask(app)?;
    }
    let left = format!(
        "the disk is either unchanged or restored: run `goloo restore {name} {label}` again to be sure"
    );
    app.act(NO_WAIT, &left, |run| app.session.restore_snapshot(&vm, &label, run))?;
    if app.ui.json() {
        app.ui.result(&json::Restored { restored: label.as_str() });
    } else {
        app.ui
            .line(&format!("restored the disk of {name} from {label}; run `goloo start {name}` to start it"));
    }
    Ok(exit::DONE)
}
