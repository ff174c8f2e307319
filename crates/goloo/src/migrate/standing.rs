//! How a VM of an old config stands to the records that there are.

use std::path::Path;

use goloo_core::engine::{same_machine, was_migrated_as};
use goloo_core::name::VmName;
use goloo_core::record::{OriginKind, Record};

use super::scan::Candidate;
use crate::app::App;
use crate::error::CliError;

/// How it stands.
pub enum Standing {
    /// Nothing leads to its machine, and its name is free.
    New,
    /// There is nothing to do, and why.
    Settled(String),
    /// Another VM is in its way: what and what to do.
    Refused(String, String),
}

/// Compares a VM with all records, active and archived. `draft` is what its record would be.
pub fn standing(app: &App, candidate: &Candidate, draft: &Record) -> Result<Standing, CliError> {
    let of_the_name = app.local(app.store.load(&draft.name))?.map(|loaded| loaded.record);
    if let Some(record) = of_the_name.as_ref().filter(|record| same_machine(record, draft)) {
        return Ok(against(candidate, draft, record, || config_of(app, record)));
    }
    let archive = app.local(app.store.archive_list())?;
    if let Some(deleted) = archive.entries.iter().find(|entry| was_migrated_as(&entry.record, draft)) {
        return Ok(Standing::Settled(format!("it was migrated and deleted: {}", deleted.id)));
    }
    if let Some(record) = leading_to(app, draft)? {
        return Ok(against(candidate, draft, &record, || config_of(app, &record)));
    }
    Ok(of_the_name.map_or(Standing::New, |record| against(candidate, draft, &record, || None)))
}

/// The active record, under whatever name, that leads to the machine.
pub fn leading_to(app: &App, draft: &Record) -> Result<Option<Record>, CliError> {
    let names = app.local(app.store.names())?;
    for name in names.iter().filter_map(|name| VmName::parse(name).ok()) {
        // A broken one says of no machine that it leads there.
        let loaded = app.local(app.store.load(&name)).ok().flatten();
        if let Some(loaded) = loaded.filter(|loaded| same_machine(&loaded.record, draft)) {
            return Ok(Some(loaded.record));
        }
    }
    Ok(None)
}

fn config_of(app: &App, record: &Record) -> Option<Vec<u8>> {
    app.local(app.store.snapshot(&record.name)).ok()?.files.remove("config.json")
}

/// How a VM stands to one record, or to one that is about to be made; `config` gives the
/// config that that was made from.
pub fn against(
    candidate: &Candidate,
    draft: &Record,
    record: &Record,
    config: impl FnOnce() -> Option<Vec<u8>>,
) -> Standing {
    let name = &record.name;
    if !same_machine(record, draft) {
        return if name == &draft.name { name_taken(candidate, record) } else { Standing::New };
    }
    let origin = record.origin.as_ref().filter(|origin| origin.how == OriginKind::Migrated);
    let Some(origin) = origin else {
        return Standing::Settled(format!("its machine is on record as \"{name}\""));
    };
    if origin.from == candidate.from() {
        return Standing::Settled(format!("\"{name}\" is on record already"));
    }
    // An id of the cloud's is one machine's for ever; a config that has moved, or a copy of one, claims
    // nothing new either.
    let same_claim = !draft.provider.is_local()
        || !Path::new(origin.from.as_str()).exists()
        || config().as_deref() == candidate.config();
    if same_claim {
        return Standing::Settled(format!("\"{name}\" is on record already, from {}", origin.from));
    }
    Standing::Refused(
        format!("two configs claim the machine \"{name}\": {} and {}", origin.from, candidate.from()),
        format!("goloo status {name} shows what is on record; the other's section may be out of date"),
    )
}

fn name_taken(candidate: &Candidate, record: &Record) -> Standing {
    let name = &record.name;
    let by = match &record.origin {
        Some(origin) if origin.how == OriginKind::Migrated => format!(", from {}", origin.from),
        _ => String::new(),
    };
    Standing::Refused(
        format!(
            "{} claims the name \"{name}\", which another {} VM has{by}",
            candidate.from(),
            record.provider
        ),
        format!("under another name: {}", candidate.vm.adopt_hint(&format!("{name}-2"))),
    )
}
