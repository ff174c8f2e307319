//! Makes records for VMs of the first goloo, which kept what it knew in configs. The configs stay as
//! they are, byte for byte, so they are met again and again: what is on record already, or was
//! deleted, is left alone.

mod draft;
mod gone;
mod scan;
mod silent;
mod standing;

use std::time::{Duration, Instant};

use goloo_core::engine::{EngineError, register};
use goloo_core::provider::{LiveState, Observation};
use goloo_core::record::{Owner, Record};
use goloo_core::spec::Problem;
use goloo_core::store::StoreError;

use crate::app::App;
use crate::error::CliError;
use crate::{exit, identity};

pub use scan::{Candidate, Scan, Skipped};
pub use silent::{on_demand, to_show};

use draft::{draft, note_observation};
use gone::Gone;
use standing::{Standing, against, leading_to, standing};

/// How long another process may have a name's lock before it is given up.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A VM that has a record now, or would have one.
pub struct Migrated {
    /// The record.
    pub record: Record,
    /// What its provider said.
    pub live: Observation,
}

impl Migrated {
    /// The path of the config.
    pub fn from(&self) -> &str {
        self.record.origin.as_ref().map_or("", |origin| &origin.from)
    }

    /// Why its provider couldn't say whether it is there.
    pub fn unchecked(&self) -> Option<&str> {
        let reason = self.live.reason.as_deref().unwrap_or("its provider can't tell");
        (self.live.state == LiveState::Unknown).then_some(reason)
    }
}

/// A VM that couldn't get a record.
pub struct Trouble {
    /// What and where.
    pub problem: Problem,
    /// The exit code that says so.
    pub code: u8,
}

/// What came of a migration.
#[derive(Default)]
pub struct Report {
    pub migrated: Vec<Migrated>,
    pub skipped: Vec<Skipped>,
    pub troubles: Vec<Trouble>,
}

impl Report {
    /// Done, or what the first trouble says.
    pub fn code(&self) -> u8 {
        self.troubles.first().map_or(exit::DONE, |trouble| trouble.code)
    }

    fn skip(&mut self, candidate: &Candidate, reason: String) {
        self.skipped.push(Skipped { from: candidate.from().to_owned(), reason });
    }

    fn refuse(&mut self, candidate: &Candidate, code: u8, what: String, hint: String) {
        self.troubles.push(Trouble { problem: candidate.vm.place.problem(what, hint), code });
    }

    fn fail(&mut self, candidate: &Candidate, error: CliError) {
        let what = format!("\"{}\" can't be put on record: {}", candidate.vm.name, error.in_one_line());
        self.refuse(candidate, error.code, what, error.hint);
    }

    /// A VM whose name can't be used is in order once its machine is on record under another one.
    fn settle_unfit(&mut self, app: &App, candidate: &Candidate, problem: Problem) {
        match leading_to(app, &draft(candidate, &identity::creator(app.here().state_id))) {
            Ok(Some(record)) => {
                self.skip(candidate, format!("its machine is on record as \"{}\"", record.name))
            }
            Ok(None) => self.troubles.push(Trouble { problem, code: exit::USAGE }),
            Err(error) => self.fail(candidate, error),
        }
    }

    /// What stands in the way of a new record, if anything.
    fn settle(&mut self, candidate: &Candidate, standing: Result<Standing, CliError>) -> bool {
        match standing {
            Ok(Standing::New) => return true,
            Ok(Standing::Settled(reason)) => self.skip(candidate, reason),
            Ok(Standing::Refused(what, hint)) => self.refuse(candidate, exit::NOT_FOUND, what, hint),
            Err(error) => self.fail(candidate, error),
        }
        false
    }
}

/// A VM on its way to a record.
struct Draft {
    candidate: Candidate,
    record: Record,
}

/// On what occasion VMs are migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody asked for it.
    Asked,
    /// Somebody asked what it would do: nothing is written.
    DryRun,
}

/// The VMs of old configs that have no record, as a migration would begin their records, with what stands in the way of
/// others. No provider is asked and nothing is written; those that were gone at the last migration are left out.
pub fn unrecorded(app: &App, scan: Scan) -> (Vec<Record>, Report) {
    let gone = Gone::read(&app.paths.cache);
    let (drafts, report) = begin(app, scan, Some(&gone));
    (drafts.into_iter().map(|draft| draft.record).collect(), report)
}

/// Makes records for what was found.
pub fn migrate(app: &App, scan: Scan, occasion: Occasion) -> Report {
    let gone = Gone::read(&app.paths.cache);
    let (drafts, mut report) = begin(app, scan, None);
    let records: Vec<&Record> = drafts.iter().map(|draft| &draft.record).collect();
    let seen = crate::observe::look(app, &records);
    let owner = identity::owner();
    for (draft, live) in drafts.into_iter().zip(seen) {
        let Draft { candidate, mut record } = draft;
        if let Err(reason) = note_observation(&mut record, &live) {
            if occasion == Occasion::Asked {
                gone.note(&record);
            }
            report.skip(&candidate, reason);
            continue;
        }
        if occasion != Occasion::DryRun {
            match put_on_record(app, &owner, &candidate, record, &mut report) {
                Some(made) => record = made,
                None => continue,
            }
        }
        report.migrated.push(Migrated { record, live });
    }
    report
}

/// What is to get a record, and a report of the rest.
fn begin(app: &App, scan: Scan, gone: Option<&Gone>) -> (Vec<Draft>, Report) {
    let mut report = Report { skipped: scan.skipped, ..Report::default() };
    let invalid = |problem| Trouble { problem, code: exit::USAGE };
    report.troubles.extend(scan.problems.into_iter().map(invalid));
    for (candidate, problem) in scan.unfit {
        report.settle_unfit(app, &candidate, problem);
    }
    let drafts = drafts(app, scan.candidates, gone, &mut report);
    (drafts, report)
}

/// Those that are to get a record; all others are told to the report.
fn drafts(app: &App, candidates: Vec<Candidate>, gone: Option<&Gone>, report: &mut Report) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let creator = identity::creator(app.here().state_id);
    for candidate in candidates {
        let record = draft(&candidate, &creator);
        if gone.is_some_and(|gone| gone.knows(&record)) {
            continue;
        }
        let among = drafts.iter().map(|earlier| {
            let config = || earlier.candidate.config().map(<[u8]>::to_vec);
            against(&candidate, &record, &earlier.record, config)
        });
        let conflict = among.into_iter().find(|standing| !matches!(standing, Standing::New));
        let standing = conflict.map_or_else(|| standing(app, &candidate, &record), Ok);
        if report.settle(&candidate, standing) {
            drafts.push(Draft { candidate, record });
        }
    }
    drafts
}

/// Makes the record. Another process that is at it is waited for, and has then done it.
fn put_on_record(
    app: &App,
    owner: &Owner,
    candidate: &Candidate,
    record: Record,
    report: &mut Report,
) -> Option<Record> {
    let deadline = Instant::now() + LOCK_LIMIT;
    let record = match app.creator() {
        Ok(created_by) => Record { created_by, ..record },
        Err(error) => {
            report.fail(candidate, error);
            return None;
        }
    };
    let here = app.here();
    loop {
        match pollster::block_on(register(&*app.store, owner, &here, record.clone(), &candidate.snapshot)) {
            Ok(made) => return Some(made),
            Err(EngineError::Store(StoreError::Locked { .. })) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => {
                // Whoever came first may have made this very record.
                if report.settle(candidate, standing(app, candidate, &record)) {
                    report.fail(candidate, error.into());
                }
                return None;
            }
        }
    }
}
