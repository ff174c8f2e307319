//! Sample records, owners and snapshots. The values are fixed, so that a failing test fails the same way again; only
//! ids are always new, as in production.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use goloo_model::access::{Address, LoginName, PublicHostKey};
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::record::{
    AllOpen, CreateInputs, Creator, Endpoint, Extra, LocalContext, MachineLocation, NewRecord, Operation,
    OperationKind, Owner, Phase, Provisioning, ProvisioningResult, Record, Resource, SSH_PORT, SshAccess,
    StateKey, Step, Trust, UserKeys,
};
use goloo_model::secret::PrivateKey;
use goloo_model::spec::PortForward;
use goloo_model::store::Snapshot;
use goloo_model::text::SourcePath;
use goloo_model::time::Timestamp;

use crate::providers;

/// Parses a valid name.
///
/// # Panics
/// If it is invalid.
pub fn name(text: &str) -> VmName {
    VmName::parse(text).expect("a test uses sound names")
}

/// Parses a valid point in time.
///
/// # Panics
/// If it is invalid.
pub fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a test uses sound times")
}

/// The host id of Ann's laptop, which owns the local VMs of these samples.
pub const HOST_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The host key of these samples' machines.
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3";

/// Parses a valid login name.
///
/// # Panics
/// If it is invalid.
pub fn login(text: &str) -> LoginName {
    LoginName::parse(text).expect("a test uses valid login names")
}

/// Parses a valid address.
///
/// # Panics
/// If it is invalid.
pub fn address(text: &str) -> Address {
    Address::parse(text).expect("a test uses valid addresses")
}

/// The key of Ann's state folder.
///
/// # Panics
/// Never: the key is valid.
pub fn state_key() -> StateKey {
    StateKey::parse(&"5a".repeat(32)).expect("64 hexadecimal digits")
}

/// Ann's laptop, with the state folder that owns all her local VMs.
pub fn here() -> LocalContext {
    LocalContext {
        host_id: HOST_ID.into(),
        user: "ann".into(),
        state_id: None,
        trust: Trust { key: Some(state_key()), store_is_private: true, ..Trust::default() },
        operations: Arc::new(AllOpen),
        locate: Arc::new(|_| MachineLocation::Machine),
    }
}

/// Ann on her laptop, in the process `pid`.
pub fn owner(pid: u32) -> Owner {
    Owner { user: "ann".into(), host: "laptop".into(), pid, pid_start: 123_456, extra: Extra::new() }
}

/// A record as `create` first writes it: serial 0, phase `creating`, and an operation with its inputs.
pub fn creating(name: &VmName) -> Record {
    let operation = OperationId::generate();
    let mut record = Record::new(NewRecord {
        id: VmId::generate(),
        name: name.clone(),
        stack: "devbox".into(),
        provider: providers::QEMU.id,
        host_bound: true,
        phase: Phase::Creating,
        created_by: Creator {
            user: "ann".into(),
            host: "laptop".into(),
            host_id: HOST_ID.into(),
            state_id: None,
            goloo: "0.1.0".into(),
            extra: Extra::new(),
        },
    });
    record.created_at = time("2025-01-15T10:30:00Z");
    record.updated_at = time("2025-01-15T10:30:00Z");
    record.source_config_path = SourcePath::parse(Path::new("/home/ann/infra/stacks/devbox")).ok();
    record.github_users = vec!["ann".into()];
    record.ssh = Some(SshAccess {
        user: login("ubuntu"),
        account: None,
        login_problem: None,
        host_key: PublicHostKey::parse(HOST_KEY).expect("it is a key"),
        extra: Extra::new(),
    });
    record.operation = Some(Operation {
        id: operation.clone(),
        kind: OperationKind::Create,
        step: Step::Intent,
        token: operation,
        owner: owner(4711),
        lease_end: None,
        inputs: Some(CreateInputs {
            host_key: PrivateKey::new(
                "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key\n-----END OPENSSH PRIVATE KEY-----\n".into(),
            ),
            users: vec![UserKeys {
                username: "ubuntu".into(),
                github_username: Some("ann".into()),
                keys: vec![
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3 ann"
                        .into(),
                ],
            }],
            wait: true,
            force_dns: false,
            ssh_cidr: vec!["198.51.100.7/32".into()],
        }),
        force: false,
        source: None,
        dns: None,
        apply: None,
        rename: None,
        replacement: None,
        import: None,
        proof: None,
        extra: Extra::new(),
    });
    record
}

/// The record of a running QEMU machine; serial 0, not stored yet.
pub fn ready(name: &VmName) -> Record {
    let first = creating(name);
    let made_by = OperationId::generate();
    Record {
        phase: Phase::Ready,
        provisioning: Some(Provisioning {
            result: ProvisioningResult::Done,
            finished_at: Some(time("2025-01-15T10:33:00Z")),
            errors: Vec::new(),
            extra: Extra::new(),
        }),
        operation: None,
        resources: vec![Resource {
            kind: "qemu-directory".into(),
            id: format!("/home/ann/.local/share/goloo/vms/{}", first.id),
            operation: made_by,
            extra: Extra::new(),
        }],
        endpoint: Endpoint::loopback(40_022),
        tags: BTreeMap::from([("team".into(), "infra".into()), ("purpose".into(), "test".into())]),
        ..first
    }
}

/// The record of a running EC2 instance; serial 0, not stored yet.
pub fn in_aws(name: &VmName) -> Record {
    let stack_id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-{name}/1");
    let details = [
        ("stackName", format!("goloo-{name}")),
        ("stackID", stack_id),
        ("instanceID", "i-0abc0abc0abc0abc0".to_owned()),
        ("securityGroupID", "sg-0abc0abc0abc0abc0".to_owned()),
        ("region", "us-east-1".to_owned()),
        ("amiID", "ami-0abc0abc0abc0abc0".to_owned()),
        ("vpcID", "vpc-0abc0abc0abc0abc0".to_owned()),
        ("subnetID", "subnet-0abc0abc0abc0abc0".to_owned()),
    ];
    Record {
        provider: providers::AWS.id,
        host_bound: false,
        endpoint: Endpoint {
            fqdn: Some(format!("{name}.example.com")),
            ..Endpoint::new(address("54.210.33.100"), SSH_PORT)
        },
        details: details.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
        ..ready(name)
    }
}

/// Entries of `vm.ports`.
pub fn forwards(entries: &[&str]) -> Vec<PortForward> {
    entries.iter().map(|entry| entry.parse().expect("an entry of vm.ports")).collect()
}

/// The snapshot of a stack with two files, including secrets and unusual bytes.
pub fn snapshot() -> Snapshot {
    let config = b"{\"vm\": {\"image\": \"24.04\"}}\n".to_vec();
    let cloud_init = b"#cloud-config\r\npassword: \xffsecret\n".to_vec();
    Snapshot {
        files: BTreeMap::from([("config.json".into(), config), ("cloud-init.yaml".into(), cloud_init)]),
    }
}
