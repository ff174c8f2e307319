//! Records beside reality: one question for each provider, whatever the number of its VMs. A provider
//! that can't be asked makes its VMs *unknown*, and stops nobody from asking the others.

use goloo_core::provider::{LiveState, Observation, Stray};
use goloo_core::record::{Elsewhere, ProviderKind, Record};
use goloo_core::store::Listing;

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
    let Listing { entries, broken } = app.local(app.store.records())?;
    Ok(Listing { entries: entries.into_iter().map(|loaded| loaded.record).collect(), broken })
}

/// Asks of all these machines; the order stays.
pub fn ask(app: &App, records: Vec<Record>) -> Vec<Seen> {
    let live = look(app, &records.iter().collect::<Vec<_>>());
    records.into_iter().zip(live).map(|(record, live)| Seen { record, live }).collect()
}

/// Asks each provider once for all of its machines; the order stays. One that can't be asked
/// knows of none whether it is there; nobody here knows of what belongs elsewhere.
pub fn look(app: &App, records: &[&Record]) -> Vec<Observation> {
    let here = app.here();
    let elsewhere: Vec<Option<Elsewhere>> = records.iter().map(|record| record.elsewhere(&here)).collect();
    let unasked = |place: &Option<Elsewhere>| match place {
        Some(place) => at(place),
        None => unknown("the provider gave no answer"),
    };
    let mut seen: Vec<Observation> = elsewhere.iter().map(unasked).collect();
    for kind in ProviderKind::ALL {
        let of_kind = |place: &usize| records[*place].provider == *kind && elsewhere[*place].is_none();
        let places: Vec<usize> = (0..records.len()).filter(of_kind).collect();
        if places.is_empty() {
            continue;
        }
        let asked: Vec<&Record> = places.iter().map(|place| records[*place]).collect();
        for (place, observation) in places.into_iter().zip(look_at(app, *kind, &asked)) {
            seen[place] = observation;
        }
    }
    seen
}

fn look_at(app: &App, kind: ProviderKind, records: &[&Record]) -> Vec<Observation> {
    let provider = match app.provider(kind) {
        Ok(provider) => provider,
        Err(error) => return vec![unknown(&error.in_one_line()); records.len()],
    };
    app.wait_for(provider.observe(records))
}

fn unknown(reason: &str) -> Observation {
    Observation { state: LiveState::Unknown, ip: None, reason: Some(reason.to_owned()) }
}

/// What is known here of a machine that belongs elsewhere.
pub fn at(place: &Elsewhere) -> Observation {
    unknown(&format!("it belongs to {place}"))
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
