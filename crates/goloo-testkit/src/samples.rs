//! Records, owners and snapshots to test with. Fixed values, so that a failing test fails the same way
//! the next time; only ids are new each time, as they are in life.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use goloo_core::access::{Address, LoginName, PublicHostKey};
use goloo_core::name::{OperationId, VmId, VmName};
use goloo_core::record::{
    AllOpen, Aws, CreateInputs, Creator, Extra, Here, History, Local, Operation, OperationKind, Owner, Phase,
    ProviderKind, Provisioning, ProvisioningResult, Record, Resource, SCHEMA, Sight, SshAccess, StateKey,
    Step, Trust, UserKeys,
};
use goloo_core::secret::PrivateKey;
use goloo_core::store::Snapshot;
use goloo_core::text::SourcePath;
use goloo_core::time::Timestamp;

/// A name that is known to be one.
///
/// # Panics
/// When it isn't.
pub fn name(text: &str) -> VmName {
    VmName::parse(text).expect("a test uses sound names")
}

/// A point in time that is known to be one.
///
/// # Panics
/// When it isn't.
pub fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a test uses sound times")
}

/// The identity of Ann's laptop, to which local VMs of these samples belong.
pub const HOST_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The host key of these samples' machines.
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3";

/// A login name that is known to be one.
///
/// # Panics
/// When it isn't.
pub fn login(text: &str) -> LoginName {
    LoginName::parse(text).expect("a test uses valid login names")
}

/// An address that is known to be one.
///
/// # Panics
/// When it isn't.
pub fn address(text: &str) -> Address {
    Address::parse(text).expect("a test uses valid addresses")
}

/// The key of Ann's state folder.
///
/// # Panics
/// Never: it is one.
pub fn state_key() -> StateKey {
    StateKey::parse(&"5a".repeat(32)).expect("64 hexadecimal digits")
}

/// Ann's laptop, with a state folder to which all her local VMs belong.
pub fn here() -> Here {
    Here {
        host_id: HOST_ID.into(),
        user: "ann".into(),
        state_id: None,
        trust: Trust { key: Some(state_key()), store_is_private: true, ..Trust::default() },
        operations: Arc::new(AllOpen),
        sight: Arc::new(|_| Sight::Machine),
    }
}

/// Ann on her laptop, in the process `pid`.
pub fn owner(pid: u32) -> Owner {
    Owner { user: "ann".into(), host: "laptop".into(), pid, pid_start: 123_456, extra: Extra::new() }
}

/// A record as `create` first writes it: serial 0, phase `creating`, an operation with its inputs.
pub fn creating(name: &VmName) -> Record {
    let operation = OperationId::generate();
    Record {
        schema: SCHEMA,
        id: VmId::generate(),
        serial: 0,
        name: name.clone(),
        stack: "devbox".into(),
        provider: ProviderKind::Qemu,
        phase: Phase::Creating,
        created_at: time("2025-01-15T10:30:00Z"),
        updated_at: time("2025-01-15T10:30:00Z"),
        created_by: Creator {
            user: "ann".into(),
            host: "laptop".into(),
            host_id: HOST_ID.into(),
            state_id: None,
            goloo: "0.1.0".into(),
            extra: Extra::new(),
        },
        source_config_path: SourcePath::parse(Path::new("/home/ann/infra/stacks/devbox")).ok(),
        origin: None,
        hosts_entry: false,
        protected: false,
        ends_at: None,
        tags: BTreeMap::new(),
        github_users: vec!["ann".into()],
        ssh: Some(SshAccess {
            user: login("ubuntu"),
            account: None,
            login_problem: None,
            host_key: PublicHostKey::parse(HOST_KEY).expect("it is a key"),
            extra: Extra::new(),
        }),
        provisioning: None,
        operation: Some(Operation {
            id: operation.clone(),
            kind: OperationKind::Create,
            step: Step::Intent,
            token: operation,
            owner: owner(4711),
            lease_end: None,
            inputs: Some(CreateInputs {
                host_key: PrivateKey::new(
                    "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key\n-----END OPENSSH PRIVATE KEY-----\n"
                        .into(),
                ),
                users: vec![UserKeys {
                    username: "ubuntu".into(),
                    github_username: Some("ann".into()),
                    keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3 ann".into()],
                }],
                wait: true,
                force_dns: false,
                ssh_cidr: vec!["198.51.100.7/32".into()],
            }),
            force: false,
            source: None,
            dns: None,
            proof: None,
            extra: Extra::new(),
        }),
        resources: Vec::new(),
        local: None,
        aws: None,
        history: History::default(),
        proof: None,
        extra: Extra::new(),
    }
}

/// The record of a QEMU machine that is up; serial 0, to be created.
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
        local: Some(Local::loopback(40_022)),
        tags: BTreeMap::from([("team".into(), "infra".into()), ("purpose".into(), "test".into())]),
        ..first
    }
}

/// The record of an EC2 instance that is up; serial 0, to be created.
pub fn in_aws(name: &VmName) -> Record {
    let extra = [
        ("securityGroupID", "sg-0abc0abc0abc0abc0"),
        ("region", "us-east-1"),
        ("amiID", "ami-0abc0abc0abc0abc0"),
        ("vpcID", "vpc-0abc0abc0abc0abc0"),
        ("subnetID", "subnet-0abc0abc0abc0abc0"),
    ];
    Record {
        provider: ProviderKind::Aws,
        local: None,
        aws: Some(Aws {
            stack_name: Some(format!("goloo-{name}")),
            stack_id: Some(format!("arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-{name}/1")),
            instance_id: Some("i-0abc0abc0abc0abc0".into()),
            public_ip: Some(address("54.210.33.100")),
            fqdn: Some(format!("{name}.example.com")),
            extra: extra.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        }),
        ..ready(name)
    }
}

/// What a stack of two files was; secrets and odd bytes as they may come.
pub fn snapshot() -> Snapshot {
    let config = b"{\"vm\": {\"image\": \"24.04\"}}\n".to_vec();
    let cloud_init = b"#cloud-config\r\npassword: \xffsecret\n".to_vec();
    Snapshot {
        files: BTreeMap::from([("config.json".into(), config), ("cloud-init.yaml".into(), cloud_init)]),
    }
}
