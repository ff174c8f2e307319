//! Whether a VM of a v0 config can get a record, given the existing ones.

use std::path::Path;

use goloo_engine::{same_machine, was_migrated_as};
use goloo_model::name::VmName;
use goloo_model::record::{OriginKind, Record};

use super::scan::Candidate;
use crate::error::{Error, ImportFailure};
use crate::session::Session;

/// Whether it can get a record.
pub enum CandidateStatus {
    /// No record refers to its machine, and its name is free.
    New,
    /// There is nothing to do, and why.
    Settled(String),
    /// Another VM has its name.
    Refused(ImportFailure),
}

/// Compares a VM with all records, active and archived. `draft` is what its record would be.
pub fn status(session: &Session, candidate: &Candidate, draft: &Record) -> Result<CandidateStatus, Error> {
    let of_the_name = session.local(session.store.load(&draft.name))?.map(|loaded| loaded.record);
    if let Some(record) = of_the_name.as_ref().filter(|record| same_machine(record, draft)) {
        return Ok(against(candidate, draft, record, || config_of(session, record)));
    }
    let archive = session.local(session.store.archive_list())?;
    if let Some(deleted) = archive.entries.iter().find(|entry| was_migrated_as(&entry.record, draft)) {
        return Ok(CandidateStatus::Settled(format!("it was migrated and deleted: {}", deleted.id)));
    }
    if let Some(record) = record_of_machine(session, draft)? {
        return Ok(against(candidate, draft, &record, || config_of(session, &record)));
    }
    Ok(of_the_name.map_or(CandidateStatus::New, |record| against(candidate, draft, &record, || None)))
}

/// The active record of the same machine, under any name.
pub fn record_of_machine(session: &Session, draft: &Record) -> Result<Option<Record>, Error> {
    let names = session.local(session.store.names())?;
    for name in names.iter().filter_map(|name| VmName::parse(name).ok()) {
        // The machine of a broken record is unknown.
        let loaded = session.local(session.store.load(&name)).ok().flatten();
        if let Some(loaded) = loaded.filter(|loaded| same_machine(&loaded.record, draft)) {
            return Ok(Some(loaded.record));
        }
    }
    Ok(None)
}

fn config_of(session: &Session, record: &Record) -> Option<Vec<u8>> {
    session.local(session.store.snapshot(&record.name)).ok()?.files.remove("config.json")
}

/// Compares a VM with an existing record or one about to be created; `config` returns the config that the record was
/// created from.
pub fn against(
    candidate: &Candidate,
    draft: &Record,
    record: &Record,
    config: impl FnOnce() -> Option<Vec<u8>>,
) -> CandidateStatus {
    let name = &record.name;
    if !same_machine(record, draft) {
        return if name == &draft.name { name_taken(candidate, record) } else { CandidateStatus::New };
    }
    let origin = record.origin.as_ref().filter(|origin| origin.how == OriginKind::Migrated);
    let Some(origin) = origin else {
        return CandidateStatus::Settled(format!("its machine already has a record, \"{name}\""));
    };
    if origin.from == candidate.from() {
        return CandidateStatus::Settled(format!("\"{name}\" already has a record"));
    }
    // AWS never reuses an id; a moved config or a copy of one claims nothing new either.
    let same_claim = !draft.host_bound
        || !Path::new(origin.from.as_str()).exists()
        || config().as_deref() == candidate.config();
    if same_claim {
        return CandidateStatus::Settled(format!(
            "\"{name}\" already has a record, imported from {}",
            origin.from
        ));
    }
    CandidateStatus::Refused(ImportFailure::ClaimedTwice {
        place: candidate.vm.place.clone(),
        name: name.clone(),
        recorded_from: origin.from.to_string(),
    })
}

fn name_taken(candidate: &Candidate, record: &Record) -> CandidateStatus {
    let origin = record.origin.as_ref().filter(|origin| origin.how == OriginKind::Migrated);
    CandidateStatus::Refused(ImportFailure::NameTaken {
        vm: Box::new(candidate.vm.clone()),
        provider: record.provider,
        recorded_from: origin.map(|origin| origin.from.to_string()),
    })
}
