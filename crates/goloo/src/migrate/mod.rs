//! Makes records for VMs of the first goloo, which kept what it knew in configs. The configs stay as
//! they are, byte for byte, so they are met again and again: what is on record already, or was
//! deleted, is left alone.

mod gone;
mod scan;
mod standing;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use goloo_core::engine::{EngineError, register};
use goloo_core::name::{OperationId, VmId, VmName};
use goloo_core::provider::{LiveState, Made, Observation, resource};
use goloo_core::record::{
    Creator, Extra, Local, Origin, OriginKind, Owner, Phase, ProviderKind, Record, SCHEMA,
};
use goloo_core::spec::Problem;
use goloo_core::store::StoreError;
use goloo_core::time::Timestamp;

use crate::app::App;
use crate::error::CliError;
use crate::{exit, identity};

pub use scan::{Candidate, Scan, Skipped};

use gone::Gone;
use standing::{Standing, against, standing};

/// How long another process may have a name's lock before it is given up.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// `list` must not hang with a provider: what doesn't answer in this time isn't checked.
const LIST_LIMIT: Duration = Duration::from_secs(3);

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
    /// `list` came along, which has no time to lose.
    List,
}

/// Makes records for what was found.
pub fn migrate(app: &App, scan: Scan, occasion: Occasion) -> Report {
    let mut report = Report { skipped: scan.skipped, ..Report::default() };
    let invalid = |problem| Trouble { problem, code: exit::USAGE };
    report.troubles.extend(scan.problems.into_iter().map(invalid));
    let gone = (occasion == Occasion::List).then(|| Gone::read(&app.paths.cache));
    let drafts = drafts(app, scan.candidates, gone.as_ref(), &mut report);
    let seen = observe(app, &drafts, gone.as_ref().map(|_| LIST_LIMIT));
    let owner = identity::owner();
    for (draft, live) in drafts.into_iter().zip(seen) {
        let Draft { candidate, mut record } = draft;
        if let Err(reason) = note_observation(&mut record, &live) {
            gone.iter().for_each(|gone| gone.note(&record));
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

/// Those that are to get a record; all others are told to the report.
fn drafts(app: &App, candidates: Vec<Candidate>, gone: Option<&Gone>, report: &mut Report) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let creator = identity::creator();
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

/// The record as the config alone says it.
fn draft(candidate: &Candidate, creator: &Creator) -> Record {
    let vm = &candidate.vm;
    let now = Timestamp::now();
    let (local, aws) = match vm.addresses.clone() {
        Some(Made::Local(local)) => (Some(local), None),
        Some(Made::Aws(aws)) => (None, Some(aws)),
        None => (None, None),
    };
    let (kind, id) = &vm.resource;
    Record {
        schema: SCHEMA,
        id: VmId::generate(),
        serial: 0,
        name: vm.name.clone(),
        stack: candidate.stack.clone(),
        provider: vm.provider,
        phase: Phase::Degraded,
        // When the machine was made nobody wrote down; a file's time says when it was last touched.
        created_at: now,
        updated_at: now,
        created_by: creator.clone(),
        source_config_path: Some(candidate.folder.clone()),
        origin: Some(Origin {
            how: OriginKind::Migrated,
            from: candidate.from().to_owned(),
            checked: false,
            extra: Extra::new(),
        }),
        hosts_entry: vm.hosts_entry,
        tags: BTreeMap::new(),
        github_users: Vec::new(),
        ssh: None,
        provisioning: None,
        operation: None,
        resources: vec![resource(kind, id, &OperationId::generate())],
        local,
        aws,
        extra: Extra::new(),
    }
}

/// Asks each provider once for all of its machines.
fn observe(app: &App, drafts: &[Draft], limit: Option<Duration>) -> Vec<Observation> {
    let mut seen = vec![unknown("its provider gave no answer"); drafts.len()];
    for kind in ProviderKind::ALL {
        let of_kind = |(_, draft): &(usize, &Draft)| draft.record.provider == *kind;
        let (places, records): (Vec<usize>, Vec<&Record>) =
            drafts.iter().enumerate().filter(of_kind).map(|(place, draft)| (place, &draft.record)).unzip();
        if records.is_empty() {
            continue;
        }
        for (place, observation) in places.into_iter().zip(ask(app, *kind, &records, limit)) {
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

/// A machine that was seen is ready, since it was in use; of one that can't be asked for nobody knows;
/// one that is gone gets no record, and the error says so.
fn note_observation(record: &mut Record, live: &Observation) -> Result<(), String> {
    if live.state == LiveState::Missing {
        return Err(format!("\"{}\" is gone at {}; no record made", record.name, record.provider));
    }
    let there = live.state != LiveState::Unknown;
    record.phase = if there { Phase::Ready } else { Phase::Degraded };
    if let Some(origin) = &mut record.origin {
        origin.checked = there;
    }
    match (live.ip.clone(), &mut record.aws) {
        (Some(ip), Some(aws)) => aws.public_ip = Some(ip),
        (Some(ip), None) => record.local = Some(Local { ip, ssh_port: 22, extra: Extra::new() }),
        (None, _) => {}
    }
    Ok(())
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
    loop {
        match pollster::block_on(register(&app.store, owner, record.clone(), &candidate.snapshot)) {
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

/// Migrates what `list` meets; whatever goes wrong is a warning.
pub fn on_the_way(app: &App) {
    let scan = Scan::usual_places(&app.paths.config);
    if scan.is_empty() {
        return;
    }
    let report = migrate(app, scan, Occasion::List);
    report.migrated.iter().for_each(|migrated| tell(app, migrated));
    if let Some(trouble) = report.troubles.first() {
        warn(app, &trouble.problem, report.troubles.len() - 1);
    }
}

/// Migrates the VM of this name, which has no record, where an old config speaks of it.
pub fn on_demand(app: &App, name: &VmName) -> Result<(), CliError> {
    let mut scan = Scan::usual_places(&app.paths.config);
    scan.candidates.retain(|candidate| candidate.vm.name == *name);
    let unreadable = std::mem::take(&mut scan.problems);
    if scan.candidates.is_empty() {
        // One of these may be it.
        if let Some(problem) = unreadable.first() {
            warn(app, problem, unreadable.len() - 1);
        }
        return Ok(());
    }
    let report = migrate(app, scan, Occasion::Asked);
    report.migrated.iter().for_each(|migrated| tell(app, migrated));
    if report.migrated.is_empty() {
        if let Some(trouble) = report.troubles.into_iter().next() {
            let message = format!("{}: {}", place(&trouble.problem), trouble.problem.message);
            return Err(CliError::new(trouble.code, "not-migrated", message, trouble.problem.hint));
        }
        report
            .skipped
            .iter()
            .for_each(|skipped| app.ui.note(&format!("{}: {}", skipped.from, skipped.reason)));
    }
    Ok(())
}

fn tell(app: &App, migrated: &Migrated) {
    let unchecked = migrated.unchecked().map_or_else(String::new, |why| format!("; not checked: {why}"));
    let name = &migrated.record.name;
    app.ui.note(&format!("migrated {name} from {}; the config is unchanged{unchecked}", migrated.from()));
}

fn warn(app: &App, problem: &Problem, others: usize) {
    let more = if others > 0 { format!(", and {others} more") } else { String::new() };
    let text = format!("{}: {}{more} (goloo migrate shows all)", place(problem), problem.message);
    app.ui.warning(&text);
}

fn place(problem: &Problem) -> String {
    format!("{}:{}:{}", problem.file, problem.line, problem.column)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use goloo_core::spec::old_state::{OldConfig, read};
    use goloo_core::store::Snapshot;

    fn migrated(config: &str, live: LiveState, ip: Option<&str>) -> Result<Record, String> {
        let config = OldConfig { path: "/old/config.json", bytes: config.as_bytes() };
        let vm = read("web", Some(config), &[]).vms.remove(0);
        let candidate =
            Candidate { vm, stack: "web".into(), folder: "/old".into(), snapshot: Snapshot::default() };
        let mut record = draft(&candidate, &identity::creator());
        let live = Observation { state: live, ip: ip.map(str::to_owned), reason: None };
        note_observation(&mut record, &live).map(|()| record)
    }

    const LOCAL: &str = r#"{"local": {"ip": "10.0.0.1"}}"#;
    const AWS: &str =
        r#"{"aws": {"public_ip": "1.2.3.4", "stack_id": "arn:aws:cloudformation:r:1:stack/s/1"}}"#;

    #[test]
    fn a_machine_that_was_seen_is_ready_and_has_the_address_of_now() {
        for (state, ip, address) in
            [(LiveState::Running, Some("10.0.0.9"), "10.0.0.9"), (LiveState::Stopped, None, "10.0.0.1")]
        {
            let record = migrated(LOCAL, state, ip).unwrap();
            assert_eq!((record.phase, record.ip()), (Phase::Ready, Some(address)));
            assert!(record.origin.unwrap().checked);
        }
        let record = migrated(AWS, LiveState::Running, Some("5.6.7.8")).unwrap();
        assert_eq!((record.phase, record.ip()), (Phase::Ready, Some("5.6.7.8")));
        assert!(record.local.is_none());
    }

    #[test]
    fn a_machine_that_can_not_be_asked_for_is_degraded_and_marked() {
        let record = migrated(LOCAL, LiveState::Unknown, None).unwrap();
        assert_eq!((record.phase, record.ip()), (Phase::Degraded, Some("10.0.0.1")));
        assert!(!record.origin.unwrap().checked);
    }

    #[test]
    fn a_machine_that_is_gone_is_remembered_until_its_config_says_something_else() {
        let cache = tempfile::tempdir().unwrap();
        let record = |config| migrated(config, LiveState::Unknown, None).unwrap();
        Gone::read(&cache.path().join("new")).note(&record(LOCAL));
        let gone = Gone::read(&cache.path().join("new"));
        assert!(gone.knows(&record(LOCAL)));
        assert!(!gone.knows(&record(r#"{"local": {"ip": "10.0.0.2"}}"#)));
        assert!(!gone.knows(&record(AWS)));
    }

    #[test]
    fn a_machine_that_is_gone_gets_no_record() {
        assert!(migrated(LOCAL, LiveState::Missing, None).unwrap_err().contains("gone at multipass"));
    }
}
