//! `goloo config list`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::Table;
use crate::registry::{Known, Registry};
use crate::stack::{self, Found};

/// Shows the stacks in all places, and those that are only remembered.
pub fn run(app: &App) -> Result<u8, CliError> {
    let rows = rows(app);
    if app.ui.json() {
        app.ui.result(json!({"stacks": rows.iter().map(Row::json).collect::<Vec<_>>()}));
        return Ok(exit::DONE);
    }
    if rows.is_empty() {
        app.ui.say("no stacks in ./stacks or the library; goloo init writes one");
        return Ok(exit::DONE);
    }
    let mut table = Table::new(&["STACK", "WHERE", "STATE", "FOLDER"]);
    for row in &rows {
        table.row([
            row.name.clone(),
            row.place.to_owned(),
            row.standing.text(),
            row.folder.display().to_string(),
        ]);
    }
    app.ui.table(&table);
    for row in &rows {
        if let (Standing::Gone, Some(now)) = (&row.standing, &row.seems_at) {
            let (name, now) = (&row.name, now.display());
            app.ui.say(&format!("{name} seems to be at {now} now: goloo config relocate {name} {now}"));
        }
    }
    Ok(exit::DONE)
}

/// A stack beside what is remembered of its name.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// No VM was created from it.
    New,
    /// It is as it was when a VM was last created from it.
    Unchanged,
    /// It isn't.
    Changed,
    /// It is as it was, in another folder than then, which is gone.
    Moved,
    /// The last VM was created from a stack of this name in another folder.
    Elsewhere(PathBuf),
    /// Its folder is gone.
    Gone,
}

impl Standing {
    fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Moved => "moved",
            Self::Elsewhere(_) => "elsewhere",
            Self::Gone => "gone",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Elsewhere(folder) => format!("last created from {}", folder.display()),
            other => other.word().to_owned(),
        }
    }

    /// Of a stack in this folder, whose files have this digest.
    fn of(folder: &Path, digest: Option<&str>, known: Option<&Known>) -> Self {
        let Some(known) = known else { return Self::New };
        let is_same = digest == Some(known.digest.as_str());
        match known.folder == folder {
            true if is_same => Self::Unchanged,
            true => Self::Changed,
            false if is_stack(&known.folder) => Self::Elsewhere(known.folder.clone()),
            false if is_same => Self::Moved,
            false => Self::Changed,
        }
    }
}

struct Row {
    name: String,
    /// One of the places where `create` looks, or `registry`.
    place: &'static str,
    folder: PathBuf,
    standing: Standing,
    /// What is remembered of the name.
    known: Option<Known>,
    /// Where a stack lies that has the same files, when the folder is gone.
    seems_at: Option<PathBuf>,
}

impl Row {
    fn json(&self) -> Value {
        // A path needn't be UTF-8, and JSON must.
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        json!({
            "name": self.name, "path": text(&self.folder), "place": self.place, "state": self.standing.word(),
            "lastCreatedAt": self.known.as_ref().map(|known| known.created_at),
            "lastFolder": self.known.as_ref().map(|known| text(&known.folder)),
            "seemsAt": self.seems_at.as_ref().map(text),
        })
    }
}

fn rows(app: &App) -> Vec<Row> {
    let mut known = Registry::new(&app.paths.state).all(&app.ui);
    let mut digests: Vec<(String, PathBuf)> = Vec::new();
    let mut rows = Vec::new();
    for (name, (place, folder)) in stack::all(&app.paths.config) {
        let digest = digest(&folder, &name);
        let known = known.remove(&name);
        let standing = Standing::of(&folder, digest.as_deref(), known.as_ref());
        digests.extend(digest.map(|digest| (digest, folder.clone())));
        rows.push(Row { name, place: place.as_str(), folder, standing, known, seems_at: None });
    }
    rows.extend(known.into_iter().map(|(name, known)| remembered(name, known, &digests)));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// A stack in none of the places, but in the folder that it was last created from.
fn remembered(name: String, known: Known, digests: &[(String, PathBuf)]) -> Row {
    let folder = known.folder.clone();
    let standing = match is_stack(&folder) {
        true => Standing::of(&folder, digest(&folder, &name).as_deref(), Some(&known)),
        false => Standing::Gone,
    };
    let same = || digests.iter().find(|(digest, _)| *digest == known.digest);
    let seems_at = (standing == Standing::Gone).then(same).flatten().map(|(_, folder)| folder.clone());
    Row { name, place: "registry", folder, standing, known: Some(known), seems_at }
}

fn is_stack(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// `None` where it can't be read: then it isn't as it was.
fn digest(folder: &Path, name: &str) -> Option<String> {
    Found::read(folder, name).ok().map(|found| found.digest())
}
