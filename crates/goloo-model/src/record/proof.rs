//! Proof that a VM was created, or an operation started, with a state folder. Anyone who can write to a shared store can
//! claim both in a record; an HMAC with the folder's key can't be forged.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, Mac};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ssh_key::rand_core::{OsRng, RngCore};

use super::digest::{self, Digest, FIRST_FORM, FORM, hex};
use super::{ApplyInputs, Endpoint, Extra, Overrides, Record, RecordedStack, Replacing, schema_1, upgrade};
use crate::name::VmId;
use crate::store::Snapshot;

/// A state folder's key. It has no printable form.
#[derive(Clone, PartialEq, Eq)]
pub struct StateKey([u8; digest::LENGTH]);

impl StateKey {
    /// Generates a key from the system's random numbers.
    pub fn generate() -> Self {
        let mut key = [0; digest::LENGTH];
        OsRng.fill_bytes(&mut key);
        Self(key)
    }

    /// Parses the output of [`StateKey::expose`]; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        digest::parse(text).map(Self)
    }

    /// The key itself, in hexadecimal: only for a file of mode 0600.
    pub fn expose(&self) -> String {
        hex(&self.0)
    }

    /// Whether the VM was created with this key's folder, as its record claims.
    pub fn proves(&self, record: &Record) -> bool {
        let Some(proof) = &record.proof else { return false };
        let Some(fields) = AuthenticatedFields::of(record, &proof.snapshot, proof.form) else { return false };
        self.verifies(&fields.bytes(), &proof.mac)
    }

    /// The HMAC of a text.
    pub(super) fn sign(&self, content: &[u8]) -> Digest {
        Digest::of(&self.mac(content).finalize().into_bytes())
    }

    /// Whether an HMAC is the text's.
    pub(super) fn verifies(&self, content: &[u8], mac: &Digest) -> bool {
        mac.bytes().is_some_and(|expected| self.mac(content).verify_slice(&expected).is_ok())
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.chain_update(content)
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey(...)")
    }
}

/// Decides which records a provider trusts if the machine itself doesn't prove that it belongs to the record.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The state folder's key.
    pub key: Option<StateKey>,
    /// Whether no other user writes to the store.
    pub store_is_private: bool,
    /// VMs whose records were imported without proof, from a backup or another store.
    pub imported: BTreeSet<VmId>,
}

impl Trust {
    /// Whether the VM was created with this state folder: required before its machine is deleted.
    pub fn is_proven(&self, record: &Record) -> bool {
        self.key.as_ref().is_some_and(|key| key.proves(record))
    }

    /// Whether it was, or only this user can have written the record: required for reversible operations.
    pub fn is_trusted(&self, record: &Record) -> bool {
        (self.store_is_private && !self.imported.contains(&record.id)) || self.is_proven(record)
    }
}

/// All of a record that tells goloo to do something with this computer, or that identifies a machine and its names.
/// Phases, verdicts, history and the addresses of machines on this host only report.
#[derive(Serialize)]
pub(super) struct AuthenticatedFields<'r> {
    id: &'r str,
    name: &'r str,
    /// Left out where it is the VM's name, as in proofs of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_name: Option<&'r str>,
    provider: &'r str,
    stack: &'r str,
    created_at: String,
    created_by: [&'r str; 3],
    source: Option<&'r super::SourcePath>,
    origin: Option<(&'r str, &'r str)>,
    hosts_entry: bool,
    /// Left out where it is off, as in proofs of earlier versions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    autostart: bool,
    ends_at: Option<String>,
    github_users: &'r [String],
    tags: &'r std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Overrides::is_empty")]
    overrides: &'r Overrides,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacing: Option<&'r Replacing>,
    ssh: Option<(&'r super::LoginName, Option<&'r super::LoginName>, &'r super::PublicHostKey)>,
    resources: Vec<(&'r str, &'r str)>,
    #[serde(flatten)]
    machine: AuthenticatedMachine<'r>,
    snapshot: &'r str,
}

/// What the forms of proofs cover of the machine, each under keys that the other one doesn't have.
#[derive(Serialize)]
#[serde(untagged)]
enum AuthenticatedMachine<'r> {
    First {
        aws: Option<Extra>,
    },
    Second {
        host_bound: bool,
        /// Of a machine of one host it only reports: at another address the host key doesn't match.
        endpoint: Option<&'r Endpoint>,
        details: &'r Extra,
        resolved: Option<&'r RecordedStack>,
    },
}

impl<'r> AuthenticatedMachine<'r> {
    fn of(record: &'r Record, form: u8) -> Option<Self> {
        match form {
            FIRST_FORM if schema_1::is_as_upgraded(record) => {
                Some(Self::First { aws: schema_1::proven_aws(record) })
            }
            FORM => Some(Self::Second {
                host_bound: record.host_bound,
                endpoint: (!record.host_bound).then_some(&record.endpoint),
                details: &record.details,
                resolved: record.resolved.as_deref(),
            }),
            _ => None,
        }
    }
}

impl<'r> AuthenticatedFields<'r> {
    /// In this form; `None` where it is one of a later version.
    pub(super) fn of(record: &'r Record, snapshot: &'r Digest, form: u8) -> Option<Self> {
        let by = &record.created_by;
        let state_id = by.state_id.as_ref().map_or("", |id| id.as_str());
        Some(Self {
            id: record.id.as_str(),
            name: record.name.as_str(),
            machine_name: record.machine_name.as_ref().map(|name| name.as_str()),
            provider: record.provider.as_str(),
            stack: record.stack.as_str(),
            created_at: record.created_at.to_string(),
            created_by: [by.user.as_str(), by.host_id.as_str(), state_id],
            source: record.source_config_path.as_ref(),
            origin: record.origin.as_ref().map(|origin| (origin.how.as_str(), origin.from.as_str())),
            hosts_entry: record.hosts_entry,
            autostart: record.autostart,
            ends_at: record.ends_at.map(|end| end.to_string()),
            github_users: &record.github_users,
            tags: &record.tags,
            overrides: &record.overrides,
            replacing: record.replacing.as_ref(),
            ssh: record.ssh.as_ref().map(|ssh| (&ssh.user, ssh.account.as_ref(), &ssh.host_key)),
            resources: record.resources.iter().map(|one| (one.kind.as_str(), one.id.as_str())).collect(),
            machine: AuthenticatedMachine::of(record, form)?,
            snapshot: snapshot.as_str(),
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has only string keys")
    }
}

/// What an operation does, and to which VM. Excludes its progress and its current owner.
pub(super) fn intent(record: &Record) -> Option<Vec<u8>> {
    let operation = record.operation.as_ref()?;
    let inputs = operation.inputs.as_ref().map_or(Value::Null, upgrade::stored_inputs);
    let mut intent = vec![
        json!(record.id),
        json!(record.name),
        json!(operation.id),
        json!(operation.kind),
        json!(operation.token),
        json!(operation.force),
        json!(operation.source),
        json!(operation.dns),
        inputs,
    ];
    // Left out where there is none, as in proofs of earlier versions.
    intent.extend(operation.rename.as_ref().map(|change| json!(change)));
    intent.extend(operation.replacement.as_ref().map(|replacement| json!(replacement)));
    intent.extend(operation.import.as_ref().map(|import| json!(import)));
    // After a bake the VM is deleted.
    intent.extend(record.baking.as_ref().map(|baking| json!(baking)));
    // Without `settings`, which get fewer as the apply proceeds.
    intent.extend(operation.apply.as_ref().map(|apply| {
        let ApplyInputs { target, users, overrides, config, login_user, restart, reprovision, .. } = &**apply;
        match reprovision {
            None => json!([target, users, overrides, config, login_user, restart]),
            Some(files) => json!([target, users, overrides, config, login_user, restart, files]),
        }
    }));
    Some(Value::from(intent).to_string().into_bytes())
}

impl Snapshot {
    /// The SHA-256 of the files with their names; independent of the stack's location.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for (name, content) in &self.files {
            // Includes lengths, so that different stacks never produce the same input.
            hash.update(format!("{} {name} {} ", name.len(), content.len()));
            hash.update(content);
        }
        Digest::of(&hash.finalize())
    }
}

impl Record {
    /// Whether these are the files that the VM was last provisioned with, if its files have been replaced.
    pub fn has_files(&self, snapshot: &Snapshot) -> bool {
        self.reprovisioned.as_ref().is_some_and(|with| with.files == snapshot.digest())
    }

    /// Whether the record says that the VM was created from these files, or provisioned with them since.
    pub fn is_from(&self, snapshot: &Snapshot) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.snapshot == snapshot.digest())
    }

    /// Whether another record identifies the same VM with the same machine, and makes goloo do the same on this
    /// host.
    pub fn is_same_vm(&self, other: &Self) -> bool {
        let nothing = Digest::of(&[]);
        let decided =
            |record: &Self| AuthenticatedFields::of(record, &nothing, FORM).map(|fields| fields.bytes());
        decided(self) == decided(other)
    }

    /// Whether it is the same VM, with the same operation in progress.
    pub fn agrees_with(&self, other: &Self) -> bool {
        intent(self) == intent(other) && self.is_same_vm(other)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::record::{AllOpen, LocalContext, MachineLocation, SCHEMA, from_json, to_json};

    const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3";

    fn here(key: &StateKey) -> LocalContext {
        LocalContext {
            host_id: "h".into(),
            user: "ann".into(),
            state_id: None,
            trust: Trust { key: Some(key.clone()), ..Trust::default() },
            operations: Arc::new(AllOpen),
            locate: Arc::new(|_| MachineLocation::Machine),
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot { files: [("config.json".to_owned(), b"{}".to_vec())].into() }
    }

    /// A record with an operation, both proven with this folder's key.
    fn proven(here: &LocalContext) -> Record {
        let id = "01JHN3W1T3K9Q2Z8F6B4C7D5E0";
        let json = json!({
            "schema": 1, "id": id, "serial": 1, "name": "web", "stack": "web", "provider": "multipass",
            "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:30:00Z",
            "createdBy": {"user": "ann", "host": "laptop", "hostId": "h", "goloo": "0.1.0"},
            "sourceConfigPath": "/home/ann/web", "githubUsers": ["ann"], "tags": {"team": "a"},
            "resources": [{"kind": "multipass-instance", "id": "web", "operation": id}],
            "operation": {
                "id": id, "kind": "stop", "step": "intent", "token": id, "force": false,
                "owner": {"user": "ann", "host": "laptop", "pid": 1, "pidStart": 1},
            },
        });
        let mut record: Record = serde_json::from_value(json).unwrap();
        record.prove(here, snapshot().digest());
        record.prove_operation(here);
        record
    }

    /// The record with one value in its JSON changed.
    fn forged(record: &Record, pointer: &str, value: &Value) -> Record {
        let mut json: Value = serde_json::from_slice(&to_json(record)).unwrap();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value.clone();
        from_json(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{pointer}: {error}"))
    }

    #[test]
    fn protected_fields_cannot_be_changed_without_the_key() {
        let here = here(&StateKey::generate());
        let record = proven(&here);
        assert!(
            here.created(&record)
                && here.created_from(&record, &snapshot())
                && here.started_operation(&record)
        );
        for (pointer, value) in [
            ("/id", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/name", json!("other")),
            ("/machineName", json!("other")),
            ("/provider", json!("qemu")),
            ("/stack", json!("other")),
            ("/createdAt", json!("2025-01-15T10:30:01Z")),
            ("/createdBy/user", json!("bob")),
            ("/createdBy/hostId", json!("other")),
            ("/createdBy/stateId", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/sourceConfigPath", json!("/tmp/evil")),
            ("/origin", json!({"how": "adopted", "from": "i-0abc", "checked": true})),
            ("/hostsEntry", json!(true)),
            ("/autostart", json!(true)),
            ("/endsAt", json!("2025-01-15T10:30:01Z")),
            ("/githubUsers", json!(["mallory"])),
            ("/tags", json!({})),
            ("/ssh", json!({"user": "ubuntu", "hostKey": HOST_KEY})),
            ("/resources/0/id", json!("precious")),
            ("/multipass", json!({"later": 1})),
            ("/hostBound", json!(false)),
            ("/resolved", json!({"cpus": 1, "memory": 1, "disk": 1, "image": "24.04", "os": "x"})),
            ("/proof/form", json!(1)),
            ("/proof/form", json!(3)),
            ("/proof/snapshot", json!("0".repeat(64))),
            ("/proof/mac", json!("0".repeat(64))),
        ] {
            assert!(!here.created(&forged(&record, pointer, &value)), "{pointer}");
        }
        let mut other = snapshot();
        other.files.insert("cloud-init.yaml".to_owned(), Vec::new());
        assert!(!here.created_from(&record, &other));
    }

    #[test]
    fn the_address_of_a_machine_that_no_host_owns_is_protected() {
        let here = here(&StateKey::generate());
        let mut record = proven(&here);
        record.host_bound = false;
        record.prove(&here, snapshot().digest());
        assert!(here.created(&record));
        let other = json!({"address": "192.0.2.7", "sshPort": 22});
        assert!(!here.created(&forged(&record, "/endpoint", &other)));
    }

    #[test]
    fn changes_to_reported_fields_keep_the_proof_valid() {
        let here = here(&StateKey::generate());
        let record = proven(&here);
        for (pointer, value) in [
            ("/serial", json!(9)),
            ("/phase", json!("degraded")),
            ("/updatedAt", json!("2026-01-15T10:30:00Z")),
            ("/protected", json!(true)),
            ("/history", json!([])),
            ("/endpoint", json!({"address": "10.0.0.2", "sshPort": 22})),
            ("/later", json!("a field of a later version")),
        ] {
            assert!(here.created(&forged(&record, pointer, &value)), "{pointer}");
        }
    }

    /// Records with a proof that goloo 0.1 wrote with this key, as they lie in stores.
    #[test]
    fn proofs_of_schema_1_hold_after_the_upgrade() {
        let here = here(&StateKey::parse(&"5a".repeat(32)).unwrap());
        for text in [
            include_str!("fixtures/schema-1-qemu.json"),
            include_str!("fixtures/schema-1-aws.json"),
            include_str!("fixtures/schema-1-migrated.json"),
        ] {
            let record = from_json(text.as_bytes()).unwrap();
            assert!(here.created_from(&record, &snapshot()), "{}", record.name);
            assert_eq!(record.schema, SCHEMA);
            // Written in the new form without the key, as by a colleague, it still holds.
            let saved = from_json(&to_json(&record)).unwrap();
            assert!(here.created(&saved) && saved == record);
            let mut renewed = saved.clone();
            renewed.prove_again(&here);
            assert!(here.created(&renewed) && renewed.proof != record.proof);
        }
        let aws = from_json(include_bytes!("fixtures/schema-1-aws.json")).unwrap();
        for (pointer, value) in [
            ("/aws/instanceID", json!("i-0fff")),
            ("/aws/later", json!("x")),
            ("/endpoint/address", json!("192.0.2.1")),
            ("/endpoint/fqdn", json!("other.example.com")),
            // What schema 1 didn't have isn't covered, so a proof of that time is none of it.
            ("/endpoint/sshPort", json!(2222)),
            ("/endpoint/later", json!("x")),
            ("/hostBound", json!(true)),
            ("/resolved", json!({"cpus": 1, "memory": 1, "disk": 1, "image": "24.04", "os": "x"})),
        ] {
            assert!(!here.created(&forged(&aws, pointer, &value)), "{pointer}");
        }
        let qemu = from_json(include_bytes!("fixtures/schema-1-qemu.json")).unwrap();
        assert!(!here.created(&forged(&qemu, "/hostBound", &json!(false))));
    }

    #[test]
    fn the_proof_of_an_operation_covers_its_definition_but_not_its_progress() {
        let here = here(&StateKey::generate());
        let record = proven(&here);
        for (pointer, value) in [
            ("/id", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/name", json!("other")),
            ("/operation/id", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/operation/kind", json!("delete")),
            ("/operation/token", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/operation/force", json!(true)),
            ("/operation/source", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/operation/inputs", json!({"hostKey": "x", "users": [], "wait": true})),
            ("/operation/proof", json!("0".repeat(64))),
        ] {
            assert!(!here.started_operation(&forged(&record, pointer, &value)), "{pointer}");
        }
        for (pointer, value) in [("/operation/step", json!("recording")), ("/operation/owner/pid", json!(7))]
        {
            assert!(here.started_operation(&forged(&record, pointer, &value)), "{pointer}");
        }
        assert!(here.started_operation(&forged(&record, "/operation", &Value::Null)));
    }

    #[test]
    fn a_record_is_not_proven_in_another_folder_or_without_a_key() {
        let record = proven(&here(&StateKey::generate()));
        let elsewhere = here(&StateKey::generate());
        assert!(!elsewhere.created(&record) && !elsewhere.started_operation(&record));
        let before = LocalContext { trust: Trust::default(), ..elsewhere };
        assert!(!before.created(&record) && !before.started_operation(&record));
        let unproven = proven(&before);
        assert!(unproven.proof.is_none() && !before.created(&unproven));
    }

    #[test]
    fn a_proof_renewed_after_a_change_is_valid() {
        let here = here(&StateKey::generate());
        let mut record = proven(&here);
        record.resources.clear();
        assert!(!here.created(&record));
        record.prove_again(&here);
        assert!(here.created_from(&record, &snapshot()));
    }

    #[test]
    fn a_state_key_survives_a_round_trip_and_is_never_printed() {
        let key = StateKey::generate();
        assert_eq!(StateKey::parse(&key.expose()), Some(key.clone()));
        assert_ne!(key, StateKey::generate());
        assert_eq!(format!("{key:?}"), "StateKey(...)");
        let text = key.expose();
        for wrong in
            ["", &text[1..], &text.replace(|c: char| c.is_ascii_hexdigit(), "g"), &format!("{text}0")]
        {
            assert_eq!(StateKey::parse(wrong), None, "{wrong}");
        }
    }
}
