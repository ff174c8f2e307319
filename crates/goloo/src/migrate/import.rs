//! Creates records for VMs of goloo v0, which kept its state in configs. The configs are never changed, so they are
//! found again at each scan: a VM that already has a record, or was deleted, is skipped.

use std::path::Path;
use std::time::{Duration, Instant};

use goloo_engine::{EngineError, register};
use goloo_model::provider::{LiveState, Observation};
use goloo_model::record::{Owner, Record};
use goloo_model::spec::Diagnostic;
use goloo_model::store::StoreError;

use crate::error::{Error, ImportFailure};
use crate::identity;
use crate::session::Session;

use super::candidate_status::{CandidateStatus, against, record_of_machine, status};
use super::draft::{draft, note_observation};
use super::missing_vms::MissingVms;
use super::scan::{Candidate, Scan, Skipped};

/// How long to wait for another process that holds the name's lock.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A VM that has a record now, or would have one.
pub struct Migrated {
    /// The record.
    pub record: Record,
    /// The provider's answer.
    pub live: Observation,
}

impl Migrated {
    /// The path of the config.
    pub fn from(&self) -> &str {
        self.record.origin.as_ref().map_or("", |origin| &origin.from)
    }

    /// Why its provider couldn't tell whether the machine exists.
    pub fn unchecked(&self) -> Option<&str> {
        let reason = self.live.reason.as_deref().unwrap_or("the provider gave no reason");
        (self.live.state == LiveState::Unknown).then_some(reason)
    }
}

/// The result of a migration.
#[derive(Default)]
pub struct Report {
    /// VMs that have a record now, or would have one.
    pub migrated: Vec<Migrated>,
    /// VMs and places that need no record.
    pub skipped: Vec<Skipped>,
    /// VMs that can't be imported.
    pub failures: Vec<ImportFailure>,
}

impl Report {
    fn skip(&mut self, candidate: &Candidate, reason: String) {
        self.skipped.push(Skipped { from: candidate.from().to_owned(), reason });
    }

    fn fail(&mut self, candidate: &Candidate, error: Error) {
        self.failures.push(ImportFailure::Failed {
            place: candidate.vm.place.clone(),
            name: candidate.vm.name.clone(),
            error: Box::new(error),
        });
    }

    /// A VM with an unusable name needs no import if its machine has a record under another name.
    fn settle_unfit(&mut self, session: &Session, candidate: &Candidate, problem: Diagnostic) {
        match record_of_machine(session, &draft(candidate, &identity::creator(session.here().state_id))) {
            Ok(Some(record)) => {
                self.skip(candidate, format!("its machine already has a record, \"{}\"", record.name))
            }
            Ok(None) => self.failures.push(ImportFailure::Invalid(problem)),
            Err(error) => self.fail(candidate, error),
        }
    }

    /// Whether a new record can be created; otherwise the reason is added to the report.
    fn settle(&mut self, candidate: &Candidate, status: Result<CandidateStatus, Error>) -> bool {
        match status {
            Ok(CandidateStatus::New) => return true,
            Ok(CandidateStatus::Settled(reason)) => self.skip(candidate, reason),
            Ok(CandidateStatus::Refused(failure)) => self.failures.push(failure),
            Err(error) => self.fail(candidate, error),
        }
        false
    }
}

struct Draft {
    candidate: Candidate,
    record: Record,
}

/// Why VMs are migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// An import.
    Request,
    /// A dry run: nothing is written.
    DryRun,
}

/// The VMs of v0 configs that have no record, with the records that a migration would create, and the failures of
/// others. No provider is queried and nothing is written; machines that were missing at the last migration are omitted.
pub fn unrecorded(session: &Session, scan: Scan) -> (Vec<Record>, Report) {
    let missing = MissingVms::read(&session.paths.cache);
    let (drafts, report) = begin(session, scan, Some(&missing));
    (drafts.into_iter().map(|draft| draft.record).collect(), report)
}

impl Session {
    /// Imports the VMs of goloo v0 in this folder of stacks, else in all places where `create` looks.
    ///
    /// # Errors
    /// [`MigrateError::NotAFolder`]. VMs that can't be imported are in the report.
    pub fn migrate(&self, folder: Option<&Path>, trigger: Trigger) -> Result<Report, Error> {
        let scan = match folder {
            Some(folder) => Scan::of(folder)?,
            None => Scan::usual_places(&self.paths.config),
        };
        Ok(migrate(self, scan, trigger))
    }
}

/// Creates records for the VMs that were found.
pub fn migrate(session: &Session, scan: Scan, trigger: Trigger) -> Report {
    let missing = MissingVms::read(&session.paths.cache);
    let (drafts, mut report) = begin(session, scan, None);
    let records: Vec<&Record> = drafts.iter().map(|draft| &draft.record).collect();
    let seen = crate::observe::inspect(session, &records);
    let owner = identity::owner();
    for (draft, live) in drafts.into_iter().zip(seen) {
        let Draft { candidate, mut record } = draft;
        if let Err(reason) = note_observation(&mut record, &live) {
            if trigger == Trigger::Request {
                missing.add(&record);
            }
            report.skip(&candidate, reason);
            continue;
        }
        if trigger != Trigger::DryRun {
            match import(session, &owner, &candidate, record, &mut report) {
                Some(made) => record = made,
                None => continue,
            }
        }
        report.migrated.push(Migrated { record, live });
    }
    report
}

/// The VMs to import, and a report of the others.
fn begin(session: &Session, scan: Scan, missing: Option<&MissingVms>) -> (Vec<Draft>, Report) {
    let mut report = Report { skipped: scan.skipped, failures: scan.failures, ..Report::default() };
    for (candidate, problem) in scan.unfit {
        report.settle_unfit(session, &candidate, problem);
    }
    let drafts = drafts(session, scan.candidates, missing, &mut report);
    (drafts, report)
}

/// The VMs to import; all others are added to the report.
fn drafts(
    session: &Session,
    candidates: Vec<Candidate>,
    missing: Option<&MissingVms>,
    report: &mut Report,
) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let creator = identity::creator(session.here().state_id);
    for candidate in candidates {
        let record = draft(&candidate, &creator);
        if missing.is_some_and(|missing| missing.contains(&record)) {
            continue;
        }
        let among = drafts.iter().map(|earlier| {
            let config = || earlier.candidate.config().map(<[u8]>::to_vec);
            against(&candidate, &record, &earlier.record, config)
        });
        let conflict = among.into_iter().find(|status| !matches!(status, CandidateStatus::New));
        let status = conflict.map_or_else(|| status(session, &candidate, &record), Ok);
        if report.settle(&candidate, status) {
            drafts.push(Draft { candidate, record });
        }
    }
    drafts
}

/// Creates the record. Waits while another process holds the name's lock, since it may create the same record.
fn import(
    session: &Session,
    owner: &Owner,
    candidate: &Candidate,
    record: Record,
    report: &mut Report,
) -> Option<Record> {
    let deadline = Instant::now() + LOCK_LIMIT;
    let record = match session.creator() {
        Ok(created_by) => Record { created_by, ..record },
        Err(error) => {
            report.fail(candidate, error);
            return None;
        }
    };
    let here = session.here();
    loop {
        match pollster::block_on(register(&*session.store, owner, &here, record.clone(), &candidate.snapshot))
        {
            Ok(made) => return Some(made),
            Err(EngineError::Store(StoreError::Locked { .. })) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => {
                // Another process may have created the same record.
                if report.settle(candidate, status(session, candidate, &record)) {
                    report.fail(candidate, error.into());
                }
                return None;
            }
        }
    }
}
