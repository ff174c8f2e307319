//! The record of a VM of goloo v0, from its config and then from its provider.

use goloo_model::access::Address;
use goloo_model::name::{OperationId, VmId};
use goloo_model::provider::{LiveState, Observation, resource};
use goloo_model::record::{Creator, Extra, NewRecord, Origin, OriginKind, Phase, Record, SSH_PORT};
use goloo_model::text::SourcePath;

use super::scan::Candidate;

/// The record that follows from the config alone.
pub fn draft(candidate: &Candidate, creator: &Creator) -> Record {
    let vm = &candidate.vm;
    // goloo v0 didn't save the creation time, and a file's time is that of its last change.
    let mut record = Record::new(NewRecord {
        id: VmId::generate(),
        name: vm.name.clone(),
        stack: candidate.stack.as_str().into(),
        provider: vm.provider,
        host_bound: vm.host_bound,
        phase: Phase::Degraded,
        created_by: creator.clone(),
    });
    record.source_config_path = SourcePath::parse(&candidate.folder).ok();
    record.origin = Some(Origin {
        how: OriginKind::Migrated,
        from: candidate.from().into(),
        checked: false,
        export: None,
        extra: Extra::new(),
    });
    record.hosts_entry = vm.hosts_entry;
    let (kind, id) = &vm.resource;
    record.resources = vec![resource(kind, id, &OperationId::generate())];
    if let Some(endpoints) = vm.endpoints.clone() {
        endpoints.write_to(&mut record);
    }
    record
}

/// Updates the record from the provider's answer. A machine that exists is ready, since it was in use; if it can't be
/// queried, its state is unknown. A machine that no longer exists gets no record, which is an error.
pub fn note_observation(record: &mut Record, live: &Observation) -> Result<(), String> {
    if live.state == LiveState::Missing {
        return Err(format!("\"{}\" no longer exists at {}; not imported", record.name, record.provider));
    }
    let there = live.state != LiveState::Unknown;
    record.phase = if there { Phase::Ready } else { Phase::Degraded };
    if let Some(origin) = &mut record.origin {
        origin.checked = there;
    }
    if let Some(ip) = live.ip.as_deref().and_then(|ip| Address::parse(ip).ok()) {
        record.endpoint.address = Some(ip);
        record.endpoint.ssh_port.get_or_insert(SSH_PORT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity;
    use crate::migrate::missing_vms::MissingVms;
    use goloo_model::spec::old_state::{V0Config, read};
    use goloo_model::store::Snapshot;

    fn migrated(config: &str, live: LiveState, ip: Option<&str>) -> Result<Record, String> {
        let config = V0Config { path: "/old/config.json", bytes: config.as_bytes() };
        let vm = read("web", Some(config), &[]).vms.remove(0);
        let candidate =
            Candidate { vm, stack: "web".into(), folder: "/old".into(), snapshot: Snapshot::default() };
        let mut record = draft(&candidate, &identity::creator(None));
        let live = Observation { ip: ip.map(str::to_owned), ..Observation::of(live) };
        note_observation(&mut record, &live).map(|()| record)
    }

    const LOCAL: &str = r#"{"local": {"ip": "10.0.0.1"}}"#;
    const AWS: &str =
        r#"{"aws": {"public_ip": "1.2.3.4", "stack_id": "arn:aws:cloudformation:us-east-1:1:stack/s/1"}}"#;

    #[test]
    fn an_observed_machine_is_ready_with_its_current_address() {
        for (state, ip, address) in
            [(LiveState::Running, Some("10.0.0.9"), "10.0.0.9"), (LiveState::Stopped, None, "10.0.0.1")]
        {
            let record = migrated(LOCAL, state, ip).unwrap();
            assert_eq!((record.phase, record.ip()), (Phase::Ready, Some(address)));
            assert!(record.origin.unwrap().checked);
        }
        let record = migrated(AWS, LiveState::Running, Some("5.6.7.8")).unwrap();
        assert_eq!((record.phase, record.ip()), (Phase::Ready, Some("5.6.7.8")));
        assert_eq!(record.to_output().get("local"), None);
    }

    #[test]
    fn a_machine_that_cannot_be_checked_is_degraded_and_marked() {
        let record = migrated(LOCAL, LiveState::Unknown, None).unwrap();
        assert_eq!((record.phase, record.ip()), (Phase::Degraded, Some("10.0.0.1")));
        assert!(!record.origin.unwrap().checked);
    }

    #[test]
    fn a_missing_machine_is_remembered_until_its_config_changes() {
        let cache = tempfile::tempdir().unwrap();
        let record = |config| migrated(config, LiveState::Unknown, None).unwrap();
        MissingVms::read(&cache.path().join("new")).add(&record(LOCAL));
        let missing = MissingVms::read(&cache.path().join("new"));
        assert!(missing.contains(&record(LOCAL)));
        assert!(!missing.contains(&record(r#"{"local": {"ip": "10.0.0.2"}}"#)));
        assert!(!missing.contains(&record(AWS)));
    }

    #[test]
    fn a_missing_machine_gets_no_record() {
        assert!(
            migrated(LOCAL, LiveState::Missing, None).unwrap_err().contains("no longer exists at multipass")
        );
    }
}
