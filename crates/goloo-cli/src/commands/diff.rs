//! `goloo diff`

use std::path::{Path, PathBuf};

use goloo::drift::FileChange;
use similar::TextDiff;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, OptionalVm};
use crate::output::one_line;
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: OptionalVm,
    /// The stack's folder, instead of the recorded one
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let diff = app.session.diff(&name, args.folder.clone())?;
    let text: String = diff.drift.changes().iter().map(|change| unified(change, &diff.folder)).collect();
    if app.ui.json() {
        app.ui.result(&json::StackChanges::new(&diff, &text));
    } else if text.is_empty() {
        app.ui.say(&format!("{} has not changed since \"{name}\" was created", diff.folder.display()));
    } else {
        // Each line of a file starts with a sign, so it can't be mistaken for goloo's own output.
        app.ui.document(&text);
    }
    Ok(exit::DONE)
}

fn unified(change: &FileChange, folder: &Path) -> String {
    let text = |content: &Option<Vec<u8>>| {
        String::from_utf8_lossy(content.as_deref().unwrap_or_default()).into_owned()
    };
    let (file, old, new) = (change.file, text(&change.before), text(&change.now));
    let diff = TextDiff::from_lines(&old, &new);
    let header =
        (format!("snapshot/{file}"), one_line(&folder.join(file).display().to_string()).into_owned());
    diff.unified_diff().header(&header.0, &header.1).to_string()
}
