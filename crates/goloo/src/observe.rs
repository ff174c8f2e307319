//! The records with the states of their machines. Each provider gets one request, whatever the number of its VMs. A
//! VM's state is *unknown* when its provider can't be queried; the other providers are still queried.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::future::join_all;
use goloo_model::provider::{LiveState, Observation, Orphan, ProviderError};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForeignOwner, Record};
use goloo_model::store::Listing;

use crate::error::Error;
use crate::session::Session;

/// A record and the current state of its machine.
#[derive(Debug, Clone)]
pub struct ObservedVm {
    /// The record.
    pub record: Record,
    /// The provider's answer.
    pub live: Observation,
}

impl ObservedVm {
    /// Why the machine's state is unknown; `None` when it is known.
    pub fn unknown(&self) -> Option<&str> {
        self.live.unknown_reason()
    }
}

/// All active records.
///
/// # Errors
/// Errors of the store.
pub fn records(session: &Session) -> Result<Listing<Record>, Error> {
    let Listing { entries, broken } = session.local(session.store.records())?;
    Ok(Listing { entries: entries.into_iter().map(|loaded| loaded.record).collect(), broken })
}

impl Session {
    /// The state of a machine that belongs here.
    ///
    /// # Errors
    /// As [`Session::provider_of`]. A provider that can't tell is no error.
    pub fn observe(&self, record: &Record) -> Result<Observation, Error> {
        let provider = self.provider_of(record)?;
        let mut observed = self.wait_for(provider.observe(&[record]))?;
        Ok(observed.pop().unwrap_or_else(|| Observation::unknown("the provider did not answer")))
    }
}

/// The records with the states of their machines, in the same order.
pub fn ask(session: &Session, records: Vec<Record>) -> Vec<ObservedVm> {
    let live = inspect(session, &records.iter().collect::<Vec<_>>());
    records.into_iter().zip(live).map(|(record, live)| ObservedVm { record, live }).collect()
}

/// The states of the machines, in the order of the records; each provider is queried once. A state is unknown when the
/// provider can't be queried, or when the machine belongs elsewhere.
pub fn inspect(session: &Session, records: &[&Record]) -> Vec<Observation> {
    let here = session.here();
    let elsewhere: Vec<Option<ForeignOwner>> = records.iter().map(|record| record.elsewhere(&here)).collect();
    let unasked = |place: &Option<ForeignOwner>| match place {
        Some(place) => at(place),
        None => Observation::unknown("the provider did not answer"),
    };
    let mut seen: Vec<Observation> = elsewhere.iter().map(unasked).collect();
    // In the registry's order, and behind it what this program has no provider for.
    let mut ids = session.providers.ids();
    for record in records {
        if !ids.contains(&record.provider) {
            ids.push(record.provider);
        }
    }
    for id in ids {
        let of_provider = |place: &usize| records[*place].provider == id && elsewhere[*place].is_none();
        let places: Vec<usize> = (0..records.len()).filter(of_provider).collect();
        if places.is_empty() {
            continue;
        }
        let asked: Vec<&Record> = places.iter().map(|place| records[*place]).collect();
        for (place, observation) in places.into_iter().zip(inspect_with(session, id, &asked)) {
            seen[place] = observation;
        }
    }
    seen
}

/// The states of machines on this computer, in the order of the records, as far as their providers tell them before
/// `end`. Providers are asked at the same time, and nothing waits longer.
pub fn ask_soon(session: &Session, records: &[Record], end: Instant) -> Vec<Option<Observation>> {
    let here = session.here();
    let mut places: BTreeMap<ProviderId, Vec<usize>> = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        if record.elsewhere(&here).is_none() {
            places.entry(record.provider).or_default().push(place);
        }
    }
    let asked = places.iter().map(|(id, places)| {
        let records: Vec<&Record> = places.iter().map(|place| &records[*place]).collect();
        async move { ask_provider_soon(session, *id, &records, end).await }
    });
    let answers = match places.is_empty() {
        true => Vec::new(),
        // Without a runtime nobody can be asked, and the list is still useful.
        false => session.wait_for(async { join_all(asked).await }).unwrap_or_default(),
    };
    let mut seen = vec![None; records.len()];
    for (places, answers) in places.values().zip(answers) {
        for (place, observation) in places.iter().zip(answers) {
            seen[*place] = Some(observation).filter(|seen| seen.state != LiveState::Unknown);
        }
    }
    seen
}

/// Empty if there is no answer in time.
async fn ask_provider_soon(
    session: &Session,
    id: ProviderId,
    records: &[&Record],
    end: Instant,
) -> Vec<Observation> {
    let answer = async {
        let provider = session.open_provider(id).await.ok()?;
        // One machine's silence must be noticed before the time is over for all.
        let limit = end.saturating_duration_since(Instant::now()).mul_f32(0.75);
        Some(provider.observe_soon(records, limit).await)
    };
    let answer = tokio::time::timeout_at(end.into(), answer).await;
    answer.ok().flatten().unwrap_or_default()
}

fn inspect_with(session: &Session, id: ProviderId, records: &[&Record]) -> Vec<Observation> {
    let answer = session.provider(id).and_then(|provider| session.wait_for(provider.observe(records)));
    answer.unwrap_or_else(|error| vec![Observation::unknown(error.in_one_line()); records.len()])
}

/// The state of a machine that belongs elsewhere: unknown here.
pub fn at(place: &ForeignOwner) -> Observation {
    Observation::unknown(format!("it belongs to {place}"))
}

/// Machines of the providers that have no record.
#[derive(Debug, Default)]
pub struct Orphans {
    /// The machines.
    pub found: Vec<(ProviderId, Orphan)>,
    /// The providers that couldn't be queried, and why.
    pub unasked: Vec<(ProviderId, Error)>,
}

/// Queries each provider that a record names, and each one that this user has ever set up: a lost record may have been
/// the only one. A provider that no record names is skipped when it isn't available.
pub fn orphans(session: &Session, known: &[&Record]) -> Orphans {
    let mut orphans = Orphans::default();
    for factory in session.providers.iter() {
        let id = factory.info().id;
        let records: Vec<&Record> = known.iter().copied().filter(|record| record.provider == id).collect();
        if records.is_empty() && !factory.is_set_up() {
            continue;
        }
        match orphans_of(session, id, &records) {
            Ok(found) => orphans.found.extend(found.into_iter().map(|orphan| (id, orphan))),
            Err(error) if records.is_empty() && is_absent(&error) => {}
            Err(error) => orphans.unasked.push((id, error)),
        }
    }
    orphans
}

/// Whether the provider isn't installed here.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Provider(ProviderError::Unavailable { .. } | ProviderError::Unsupported { .. }))
}

fn orphans_of(session: &Session, id: ProviderId, known: &[&Record]) -> Result<Vec<Orphan>, Error> {
    let provider = session.provider(id)?;
    Ok(session.wait_for(provider.orphans(known))??)
}
