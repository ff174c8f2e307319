//! `goloo diff`

use std::path::{Path, PathBuf};

use goloo_core::record::Record;
use goloo_core::store::{SNAPSHOT_FILES, Snapshot};
use goloo_os::read;
use serde_json::json;
use similar::TextDiff;

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::output::one_line;
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The stack's folder, in place of the one on record
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    json: args::Json,
}

/// How a stack differs from the snapshot that a VM was made from.
#[derive(Debug, PartialEq, Eq)]
pub enum Drift {
    /// Not at all.
    None,
    /// In these files.
    Changed(Vec<&'static str>),
    /// The stack can't be found or read any more.
    Gone,
    /// Nobody has looked: somebody else may have written which folder it is.
    Unknown,
}

impl Drift {
    /// The word in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Changed(_) => "changed",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }

    /// In a sentence's brackets.
    pub fn text(&self, name: &str) -> String {
        match self {
            Self::None => "unchanged since".to_owned(),
            Self::Changed(files) => format!("{} changed since: goloo diff {name}", files.join(", ")),
            Self::Gone => "gone or unreadable".to_owned(),
            Self::Unknown => {
                format!("not compared, as this computer doesn't know it: goloo diff {name} -f PATH")
            }
        }
    }
}

/// Compares a snapshot with the stack's folder as it is now.
pub fn drift(snapshot: &Snapshot, folder: Option<&Path>) -> Drift {
    let Some(folder) = folder.filter(|folder| folder.join("config.json").is_file()) else {
        return Drift::Gone;
    };
    let changed = |file: &&str| present(folder, file) != snapshot.files.get(*file).cloned();
    let changed: Vec<_> = SNAPSHOT_FILES.into_iter().filter(changed).collect();
    if changed.is_empty() { Drift::None } else { Drift::Changed(changed) }
}

fn present(folder: &Path, file: &str) -> Option<Vec<u8>> {
    read::file(&folder.join(file), read::FILE_MAX).ok()
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let record = app.record(&name)?;
    let snapshot = app.local(app.store.snapshot(&name))?;
    if snapshot.files.is_empty() {
        return Err(super::recreate::made_elsewhere(&record));
    }
    let folder = match &args.folder {
        Some(folder) => Some(folder.as_path()),
        None => known_folder(app, &record)?,
    };
    let drift = drift(&snapshot, folder);
    let (Some(folder), false) = (folder, drift == Drift::Gone) else {
        return Err(CliError::not_found(
            format!("the stack of \"{name}\" is gone or can't be read"),
            format!("goloo recreate {name} --as NEW makes a VM from the snapshot"),
        ));
    };
    let files = if let Drift::Changed(files) = &drift { files.as_slice() } else { &[] };
    let diffs = files.iter().map(|file| {
        let (old, new) = (snapshot.files.get(*file).cloned(), present(folder, file));
        unified(file, &old.unwrap_or_default(), &new.unwrap_or_default(), folder)
    });
    let text: String = diffs.collect();
    if app.ui.json() {
        app.ui.result(json!({"drift": drift.word(), "files": files, "diff": text}));
    } else if text.is_empty() {
        app.ui.say(&format!("{} is as it was when \"{name}\" was made", folder.display()));
    } else {
        // A line of a file has a sign before it, whatever is in the line.
        app.ui.document(&text);
    }
    Ok(exit::DONE)
}

/// The folder on record. One that somebody else may have written is named, and not read.
fn known_folder<'r>(app: &App, record: &'r Record) -> Result<Option<&'r Path>, CliError> {
    match (record.source_config_path.as_deref(), app.trusted_source(record)) {
        (Some(folder), None) => Err(CliError::failed(
            format!(
                "the record of \"{}\" names the stack {}, which this computer doesn't know",
                record.name,
                folder.display()
            ),
            format!(
                "where you trust that folder, or have the stack elsewhere: goloo diff {} -f PATH",
                record.name
            ),
        )),
        (_, known) => Ok(known),
    }
}

fn unified(file: &str, old: &[u8], new: &[u8], folder: &Path) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let header =
        (format!("snapshot/{file}"), one_line(&folder.join(file).display().to_string()).into_owned());
    diff.unified_diff().header(&header.0, &header.1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_added_or_removed_file_is_drift() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
        write("config.json", "{}");
        let mut snapshot = Snapshot::default();
        snapshot.files.insert("config.json".into(), b"{}".to_vec());
        assert_eq!(drift(&snapshot, Some(folder.path())), Drift::None);
        write("configure.sh", "true");
        assert_eq!(drift(&snapshot, Some(folder.path())), Drift::Changed(vec!["configure.sh"]));
        snapshot.files.insert("cloud-init.yaml".into(), b"#cloud-config\n".to_vec());
        let both = Drift::Changed(vec!["cloud-init.yaml", "configure.sh"]);
        assert_eq!(drift(&snapshot, Some(folder.path())), both);
        assert_eq!(drift(&snapshot, Some(Path::new("/nowhere"))), Drift::Gone);
        assert_eq!(drift(&snapshot, None), Drift::Gone);
    }
}
