//! The record of a VM of the first goloo: what its config says, and then what its provider says.

use std::collections::BTreeMap;

use goloo_core::access::Address;
use goloo_core::name::{OperationId, VmId};
use goloo_core::provider::{LiveState, Made, Observation, resource};
use goloo_core::record::{
    Creator, Extra, History, Local, Origin, OriginKind, Phase, Record, SCHEMA, SSH_PORT,
};
use goloo_core::text::SourcePath;
use goloo_core::time::Timestamp;

use super::Candidate;

/// The record as the config alone says it.
pub fn draft(candidate: &Candidate, creator: &Creator) -> Record {
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
        stack: candidate.stack.as_str().into(),
        provider: vm.provider,
        phase: Phase::Degraded,
        // When the machine was made nobody wrote down; a file's time says when it was last touched.
        created_at: now,
        updated_at: now,
        created_by: creator.clone(),
        source_config_path: SourcePath::parse(&candidate.folder).ok(),
        origin: Some(Origin {
            how: OriginKind::Migrated,
            from: candidate.from().into(),
            checked: false,
            extra: Extra::new(),
        }),
        hosts_entry: vm.hosts_entry,
        protected: false,
        ends_at: None,
        tags: BTreeMap::new(),
        github_users: Vec::new(),
        ssh: None,
        provisioning: None,
        operation: None,
        resources: vec![resource(kind, id, &OperationId::generate())],
        local,
        aws,
        history: History::default(),
        proof: None,
        extra: Extra::new(),
    }
}

/// A machine that was seen is ready, since it was in use; of one that can't be asked for nobody knows;
/// one that is gone gets no record, and the error says so.
pub fn note_observation(record: &mut Record, live: &Observation) -> Result<(), String> {
    if live.state == LiveState::Missing {
        return Err(format!("\"{}\" is gone at {}; no record made", record.name, record.provider));
    }
    let there = live.state != LiveState::Unknown;
    record.phase = if there { Phase::Ready } else { Phase::Degraded };
    if let Some(origin) = &mut record.origin {
        origin.checked = there;
    }
    let ip = live.ip.as_deref().and_then(|ip| Address::parse(ip).ok());
    match (ip, &mut record.aws) {
        (Some(ip), Some(aws)) => aws.public_ip = Some(ip),
        (Some(ip), None) => record.local = Some(Local { ip, ssh_port: SSH_PORT, extra: Extra::new() }),
        (None, _) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity;
    use crate::migrate::gone::Gone;
    use goloo_core::spec::old_state::{OldConfig, read};
    use goloo_core::store::Snapshot;

    fn migrated(config: &str, live: LiveState, ip: Option<&str>) -> Result<Record, String> {
        let config = OldConfig { path: "/old/config.json", bytes: config.as_bytes() };
        let vm = read("web", Some(config), &[]).vms.remove(0);
        let candidate =
            Candidate { vm, stack: "web".into(), folder: "/old".into(), snapshot: Snapshot::default() };
        let mut record = draft(&candidate, &identity::creator(None));
        let live = Observation { state: live, ip: ip.map(str::to_owned), reason: None };
        note_observation(&mut record, &live).map(|()| record)
    }

    const LOCAL: &str = r#"{"local": {"ip": "10.0.0.1"}}"#;
    const AWS: &str =
        r#"{"aws": {"public_ip": "1.2.3.4", "stack_id": "arn:aws:cloudformation:us-east-1:1:stack/s/1"}}"#;

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
