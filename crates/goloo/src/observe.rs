//! Records beside reality: one question for each provider, whatever the number of its VMs. A provider
//! that can't be asked makes its VMs *unknown*, and stops nobody from asking the others.

use std::collections::BTreeMap;

use goloo_core::provider::{LiveState, Observation, Stray};
use goloo_core::record::{ProviderKind, Record};
use goloo_core::store::{Listing, Store, StoreError};

use crate::app::App;
use crate::error::CliError;

/// A record, and what its provider says of the machine now.
pub struct Seen {
    pub record: Record,
    pub live: Observation,
}

impl Seen {
    /// Why nothing is known of the machine; `None` when something is.
    pub fn unknown(&self) -> Option<&str> {
        let reason = self.live.reason.as_deref().unwrap_or("the provider gives no reason");
        (self.live.state == LiveState::Unknown).then_some(reason)
    }
}

/// All active records, whole.
pub fn records(app: &App) -> Result<Listing<Record>, CliError> {
    let listing = app.local(app.store.list())?;
    let mut records = Listing { entries: Vec::new(), broken: listing.broken };
    for vm in &listing.entries {
        match pollster::block_on(app.store.load(&vm.name)) {
            // `None`: it went between the two reads.
            Ok(loaded) => records.entries.extend(loaded.map(|loaded| loaded.record)),
            Err(StoreError::Broken(broken)) => records.broken.push(broken),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(records)
}

/// Asks of all these machines; the order stays.
pub fn ask(app: &App, records: Vec<Record>) -> Vec<Seen> {
    let mut by_provider: BTreeMap<ProviderKind, Vec<(usize, &Record)>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        by_provider.entry(record.provider).or_default().push((index, record));
    }
    let mut live = BTreeMap::new();
    for (kind, records) in by_provider {
        let borrowed: Vec<&Record> = records.iter().map(|(_, record)| *record).collect();
        let observed = ask_one(app, kind, &borrowed);
        live.extend(records.iter().map(|(index, _)| *index).zip(observed));
    }
    let silent = || unknown("the provider gave no answer".to_owned());
    let seen = |(index, record)| Seen { record, live: live.remove(&index).unwrap_or_else(silent) };
    records.into_iter().enumerate().map(seen).collect()
}

fn ask_one(app: &App, kind: ProviderKind, records: &[&Record]) -> Vec<Observation> {
    match app.provider(kind) {
        Ok(provider) => app.wait_for(provider.observe(records)),
        Err(error) => vec![unknown(error.message); records.len()],
    }
}

fn unknown(reason: String) -> Observation {
    Observation { state: LiveState::Unknown, ip: None, reason: Some(reason) }
}

/// What providers have that no record leads to.
#[derive(Default)]
pub struct Strays {
    pub found: Vec<(ProviderKind, Stray)>,
    /// Who couldn't be asked, and why.
    pub unasked: Vec<(ProviderKind, CliError)>,
}

/// Asks each provider that a record names, each one on this computer, and AWS where this user has ever set
/// it up: the record that was lost may have been the only one. One that nobody uses and that isn't here is
/// nobody's concern.
pub fn strays(app: &App, known: &[&Record]) -> Strays {
    let mut strays = Strays::default();
    for kind in ProviderKind::ALL.iter().copied() {
        let records: Vec<&Record> = known.iter().copied().filter(|record| record.provider == kind).collect();
        if records.is_empty() && !kind.is_local() && !crate::app::aws_is_set_up() {
            continue;
        }
        match strays_of(app, kind, &records) {
            Ok(found) => strays.found.extend(found.into_iter().map(|stray| (kind, stray))),
            Err(error) if records.is_empty() && matches!(error.kind, "unavailable" | "unsupported") => {}
            Err(error) => strays.unasked.push((kind, error)),
        }
    }
    strays
}

fn strays_of(app: &App, kind: ProviderKind, known: &[&Record]) -> Result<Vec<Stray>, CliError> {
    let provider = app.provider(kind)?;
    Ok(app.wait_for(provider.strays(known))?)
}
