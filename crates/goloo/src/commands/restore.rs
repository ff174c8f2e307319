//! `goloo restore`

use goloo_core::name::SnapshotLabel;
use serde_json::json;

use super::VmArg;
use super::ask::Question;
use super::snapshot::NO_WAIT;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The snapshot; `goloo snapshot NAME --list` shows them
    label: String,
    /// Don't ask
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (name, label) = (args.vm.parse()?, SnapshotLabel::parse(&args.label)?);
    let provider = app.provider_of(&app.record(&name)?)?;
    if !args.yes {
        let question = Question {
            asks: "restore asks before the disk as it is now is lost",
            lost: vec![format!("All that {name} has written since the snapshot {label} will be lost.")],
            question: "Restore?",
            words: None,
            declined: "nothing was restored",
            again: format!("goloo restore --yes {name} {label}"),
        };
        question.ask(app)?;
    }
    let left =
        format!("the disk is as it was or as it is to be: goloo restore {name} {label} tells for sure");
    app.operate(&*provider, NO_WAIT, &left, async |engine| engine.restore_snapshot(&name, &label).await)??;
    if app.ui.json() {
        app.ui.result(json!({"restored": label.as_str()}));
    } else {
        app.ui.line(&format!("the disk of {name} is as it was at {label}; goloo start {name}"));
    }
    Ok(exit::DONE)
}
