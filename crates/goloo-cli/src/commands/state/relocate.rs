//! `goloo state move`

use goloo::actions::Moved;

use crate::app::App;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new store: dir:PATH
    to: String,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let planned = app.session.plan_move(&args.to)?;
    if planned.is_current {
        return stay(app, args);
    }
    if let Some(endpoint) = planned.new_endpoint.as_ref().filter(|_| !args.yes) {
        ask_for_endpoint(app, endpoint, &args.to)?;
    }
    if app.session.is_shared() && !args.yes && app.session.is_marked_as(&planned) {
        ask_for_mark(app, &args.to)?;
    }
    let interrupt = app.watch_signals("the move was interrupted: run the same command to continue")?;
    let Moved { count, location, address, variable } = app.session.move_store(&planned, interrupt)?;
    app.ui.finish();
    app.ui.line(&format!("moved {count} to {location}"));
    app.ui.note(&format!(
        "{} is unchanged and read-only from now on; disks of local VMs and goloo's keys stay in {}",
        app.session.store.location(),
        app.session.paths.state.display()
    ));
    if let Some(variable) = variable {
        let shown = shlex::try_quote(&address).unwrap_or_default();
        app.ui.note(&format!(
            "{variable} is set, so settings.json was not changed: run `export GOLOO_STATE_BACKEND={shown}` to use the new store"
        ));
    }
    Ok(exit::DONE)
}

fn ask_for_mark(app: &App, to: &str) -> Result<(), CliError> {
    let from = app.session.store.location();
    let question = Question {
        asks: "state move asks for confirmation before it follows a mark that somebody else may have written",
        lost: vec![
            format!("  {from} is marked as moved to {to}; anyone who can write there may have set the mark"),
            "  all records, with the files of their stacks, will be stored there from now on".to_owned(),
        ],
        question: "Move them there?",
        words: None,
        declined: "nothing was moved",
        again: again(to),
    };
    question.ask_showing(app)
}

/// Removes the mark from the store in use, to abandon a move.
fn stay(app: &App, args: &Args) -> Result<u8, CliError> {
    let place = app.session.store.location();
    let Some(mark) = app.session.mark()? else {
        app.ui.line(&format!("the records are already in {place}"));
        return Ok(exit::DONE);
    };
    if !args.yes {
        let question = Question {
            asks: "state move asks for confirmation before it removes a mark",
            lost: vec![
                format!("  {place} is marked as moved to {mark}"),
                "  changes that were made there are missing here; if both stores are in use, each lacks the VMs of the other"
                    .to_owned(),
            ],
            question: "Use this store again?",
            words: None,
            declined: "the mark was not changed",
            again: again(&args.to),
        };
        question.ask(app)?;
    }
    app.session.remove_mark(&mark)?;
    app.ui.line(&format!("{place} is in use again"));
    Ok(exit::DONE)
}

/// The address may come from a mark, and anyone who can write to the store can write marks.
fn ask_for_endpoint(app: &App, endpoint: &str, to: &str) -> Result<(), CliError> {
    let question = Question {
        asks: &format!("state move asks for confirmation before it sends credentials to {endpoint}"),
        lost: vec![format!("  your credentials for the bucket and all records will be sent to {endpoint}")],
        question: "Is this your service?",
        words: None,
        declined: "nothing was moved or sent",
        again: again(to),
    };
    question.ask(app)
}

fn again(to: &str) -> String {
    format!("goloo state move --yes {}", shlex::try_quote(to).unwrap_or_default())
}
