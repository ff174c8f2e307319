//! Asks the providers whether the machines of old configs are there.

use std::time::Duration;

use goloo_core::provider::{LiveState, Observation};
use goloo_core::record::{ProviderKind, Record};

use crate::app::App;

/// Asks each provider once for all of its machines. One that can't be asked, or doesn't answer within
/// `limit`, knows of none whether it is there.
pub fn observe(app: &App, records: &[&Record], limit: Option<Duration>) -> Vec<Observation> {
    let mut seen = vec![unknown("its provider gave no answer"); records.len()];
    for kind in ProviderKind::ALL {
        let of_kind = |place: &usize| records[*place].provider == *kind;
        let places: Vec<usize> = (0..records.len()).filter(of_kind).collect();
        if places.is_empty() {
            continue;
        }
        let asked: Vec<&Record> = places.iter().map(|place| records[*place]).collect();
        for (place, observation) in places.into_iter().zip(ask(app, *kind, &asked, limit)) {
            seen[place] = observation;
        }
    }
    seen
}

fn ask(app: &App, kind: ProviderKind, records: &[&Record], limit: Option<Duration>) -> Vec<Observation> {
    let provider = match app.provider(kind) {
        Ok(provider) => provider,
        Err(error) => return vec![unknown(&error.in_one_line()); records.len()],
    };
    let late = || vec![unknown(&format!("{kind} doesn't answer")); records.len()];
    app.wait_for(async {
        let asked = provider.observe(records);
        match limit {
            Some(limit) => tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| late()),
            None => asked.await,
        }
    })
}

fn unknown(reason: &str) -> Observation {
    Observation { state: LiveState::Unknown, ip: None, reason: Some(reason.to_owned()) }
}
