//! Proof that a VM was created, or an operation started, with a state folder. Anyone who can write to a shared store can
//! claim both in a record; an HMAC with the folder's key can't be forged.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use ssh_key::rand_core::{OsRng, RngCore};

use super::{Here, Record, upgrade};
use crate::name::VmId;
use crate::store::Snapshot;
use crate::text::{ValueError, deserialize};

/// The length of a key, in bytes.
const KEY_LENGTH: usize = 32;

/// A state folder's key. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StateKey([u8; KEY_LENGTH]);

impl StateKey {
    /// A new one, from the system's random numbers.
    pub fn generate() -> Self {
        let mut key = [0; KEY_LENGTH];
        OsRng.fill_bytes(&mut key);
        Self(key)
    }

    /// Reads what [`StateKey::expose`] gave; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = [0; KEY_LENGTH];
        if !is_digest(text) {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }

    /// The key itself, in hexadecimal digits: for a file of mode 0600.
    pub fn expose(&self) -> String {
        hex(&self.0)
    }

    /// Whether the VM was created with this key's folder, as its record says.
    pub fn proves(&self, record: &Record) -> bool {
        let Some(proof) = &record.proof else { return false };
        let mac = self.mac(&Decided::of(record, &proof.snapshot).bytes());
        proof.mac.bytes().is_some_and(|expected| mac.verify_slice(&expected).is_ok())
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.chain_update(content)
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey(…)")
    }
}

/// Whose records a provider trusts when the machine itself doesn't prove that it belongs to the record.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The state folder's key.
    pub key: Option<StateKey>,
    /// Whether nobody else writes to the store.
    pub store_is_private: bool,
    /// VMs whose records were imported into it without proof, from a backup or another store.
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

/// 256 bits in hexadecimal digits: a SHA-256, or an HMAC with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn bytes(&self) -> Option<[u8; KEY_LENGTH]> {
        StateKey::parse(&self.0).map(|key| key.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, |text| {
            if is_digest(&text) {
                Ok(Self(text))
            } else {
                Err(ValueError::new("64 hexadecimal digits", &text))
            }
        })
    }
}

/// What shows that a VM was made with a state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The SHA-256 of the files that the VM was made from.
    pub snapshot: Digest,
    /// The HMAC-SHA-256 of the record's [`Decided`] with the folder's key.
    pub mac: Digest,
}

/// All of a record that tells goloo to do something with this computer, or that identifies a machine and its names.
/// Phases, verdicts, history and local addresses only report: at another address the host key doesn't match.
#[derive(Serialize)]
struct Decided<'r> {
    id: &'r str,
    name: &'r str,
    provider: &'r str,
    stack: &'r str,
    created_at: String,
    created_by: [&'r str; 3],
    source: Option<&'r super::SourcePath>,
    origin: Option<(&'r str, &'r str)>,
    hosts_entry: bool,
    github_users: &'r [String],
    tags: &'r std::collections::BTreeMap<String, String>,
    ssh: Option<(&'r super::LoginName, Option<&'r super::LoginName>, &'r super::PublicHostKey)>,
    resources: Vec<(&'r str, &'r str)>,
    aws: Option<&'r super::Aws>,
    snapshot: &'r str,
}

impl<'r> Decided<'r> {
    fn of(record: &'r Record, snapshot: &'r Digest) -> Self {
        let by = &record.created_by;
        let state_id = by.state_id.as_ref().map_or("", |id| id.as_str());
        Self {
            id: record.id.as_str(),
            name: record.name.as_str(),
            provider: record.provider.as_str(),
            stack: record.stack.as_str(),
            created_at: record.created_at.to_string(),
            created_by: [by.user.as_str(), by.host_id.as_str(), state_id],
            source: record.source_config_path.as_ref(),
            origin: record.origin.as_ref().map(|origin| (origin.how.as_str(), origin.from.as_str())),
            hosts_entry: record.hosts_entry,
            github_users: &record.github_users,
            tags: &record.tags,
            ssh: record.ssh.as_ref().map(|ssh| (&ssh.user, ssh.account.as_ref(), &ssh.host_key)),
            resources: record.resources.iter().map(|one| (one.kind.as_str(), one.id.as_str())).collect(),
            aws: record.aws.as_ref(),
            snapshot: snapshot.as_str(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has only string keys")
    }
}

/// What an operation does, and to which VM. Its progress and its current owner are not part of it.
fn intent(record: &Record) -> Option<Vec<u8>> {
    let operation = record.operation.as_ref()?;
    let inputs = operation.inputs.as_ref().map_or(Value::Null, upgrade::stored_inputs);
    let intent = serde_json::json!([
        record.id,
        record.name,
        operation.id,
        operation.kind,
        operation.token,
        operation.force,
        operation.source,
        operation.dns,
        inputs,
    ]);
    Some(intent.to_string().into_bytes())
}

impl Snapshot {
    /// The SHA-256 of the files with their names; the same wherever the stack lies.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for (name, content) in &self.files {
            // With lengths, so that no two stacks give one text.
            hash.update(format!("{} {name} {} ", name.len(), content.len()));
            hash.update(content);
        }
        Digest(hex(&hash.finalize()))
    }
}

impl Here {
    /// Whether the VM was created with this state folder, as its record says.
    pub fn created(&self, record: &Record) -> bool {
        self.trust.is_proven(record)
    }

    /// Whether it was, and from these files.
    pub fn created_from(&self, record: &Record, snapshot: &Snapshot) -> bool {
        record.is_from(snapshot) && self.created(record)
    }

    /// Whether the record's operation, if there is one, was started with this state folder, as the record says.
    pub fn started_operation(&self, record: &Record) -> bool {
        let Some(intent) = intent(record) else { return true };
        let proven = || {
            let operation =
                record.operation.as_ref().filter(|operation| self.operations.contains(&operation.id))?;
            let proof = operation.proof.as_ref()?.bytes()?;
            Some(self.trust.key.as_ref()?.mac(&intent).verify_slice(&proof).is_ok())
        };
        proven().unwrap_or(false)
    }
}

impl Record {
    /// Whether the record says that the VM was created from these files.
    pub fn is_from(&self, snapshot: &Snapshot) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.snapshot == snapshot.digest())
    }

    /// Notes that the VM is made with this state folder, from these files.
    pub fn prove(&mut self, here: &Here, snapshot: Digest) {
        self.proof = here.trust.key.as_ref().map(|key| {
            let mac = key.mac(&Decided::of(self, &snapshot).bytes());
            let mac = Digest(hex(&mac.finalize().into_bytes()));
            Proof { snapshot, mac }
        });
    }

    /// The same again for a record that had it, after a change.
    pub fn prove_again(&mut self, here: &Here) {
        if let Some(Proof { snapshot, .. }) = self.proof.take() {
            self.prove(here, snapshot);
        }
    }

    /// Notes that the operation is begun with this state folder.
    pub fn prove_operation(&mut self, here: &Here) {
        let proof = here
            .trust
            .key
            .as_ref()
            .zip(intent(self))
            .map(|(key, intent)| Digest(hex(&key.mac(&intent).finalize().into_bytes())));
        if let Some(operation) = &mut self.operation {
            operation.proof = proof;
        }
    }

    /// Whether another record identifies the same VM with the same machine, and tells goloo to do the same with this
    /// computer.
    pub fn is_same_vm(&self, other: &Self) -> bool {
        let nothing = Digest(String::new());
        let decided = |record: &Self| Decided::of(record, &nothing).bytes();
        decided(self) == decided(other)
    }

    /// The same, with the same operation under way.
    pub fn agrees_with(&self, other: &Self) -> bool {
        intent(self) == intent(other) && self.is_same_vm(other)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 2 * KEY_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::record::{AllOpen, Sight, from_json, to_json};

    const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3";

    fn here(key: &StateKey) -> Here {
        Here {
            host_id: "h".into(),
            user: "ann".into(),
            state_id: None,
            trust: Trust { key: Some(key.clone()), ..Trust::default() },
            operations: Arc::new(AllOpen),
            sight: Arc::new(|_| Sight::Machine),
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot { files: [("config.json".to_owned(), b"{}".to_vec())].into() }
    }

    /// A record of the folder with this key, with an operation.
    fn proven(here: &Here) -> Record {
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

    /// The record with one value in its file changed.
    fn forged(record: &Record, pointer: &str, value: &Value) -> Record {
        let mut json: Value = serde_json::from_slice(&to_json(record)).unwrap();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value.clone();
        from_json(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{pointer}: {error}"))
    }

    #[test]
    fn what_was_decided_can_not_be_changed_without_the_key() {
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
            ("/provider", json!("qemu")),
            ("/stack", json!("other")),
            ("/createdAt", json!("2025-01-15T10:30:01Z")),
            ("/createdBy/user", json!("bob")),
            ("/createdBy/hostId", json!("other")),
            ("/createdBy/stateId", json!("01JHN3W1T3K9Q2Z8F6B4C7D5E1")),
            ("/sourceConfigPath", json!("/tmp/evil")),
            ("/origin", json!({"how": "adopted", "from": "i-0abc", "checked": true})),
            ("/hostsEntry", json!(true)),
            ("/githubUsers", json!(["mallory"])),
            ("/tags", json!({})),
            ("/ssh", json!({"user": "ubuntu", "hostKey": HOST_KEY})),
            ("/resources/0/id", json!("precious")),
            ("/aws", json!({"instanceID": "i-0abc", "sshCIDR": ["0.0.0.0/0"]})),
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
    fn what_only_reports_can_be_changed_by_anyone() {
        let here = here(&StateKey::generate());
        let record = proven(&here);
        for (pointer, value) in [
            ("/serial", json!(9)),
            ("/phase", json!("degraded")),
            ("/updatedAt", json!("2026-01-15T10:30:00Z")),
            ("/protected", json!(true)),
            ("/local", json!({"ip": "10.0.0.2", "sshPort": 22})),
            ("/history", json!([])),
            ("/later", json!("a field of a later version")),
        ] {
            assert!(here.created(&forged(&record, pointer, &value)), "{pointer}");
        }
    }

    #[test]
    fn an_operation_is_known_by_what_it_does_and_not_by_how_far_it_is() {
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
    fn another_folder_s_record_is_not_proven_and_neither_is_any_without_a_key() {
        let record = proven(&here(&StateKey::generate()));
        let elsewhere = here(&StateKey::generate());
        assert!(!elsewhere.created(&record) && !elsewhere.started_operation(&record));
        let before = Here { trust: Trust::default(), ..elsewhere };
        assert!(!before.created(&record) && !before.started_operation(&record));
        let unproven = proven(&before);
        assert!(unproven.proof.is_none() && !before.created(&unproven));
    }

    #[test]
    fn a_proof_that_is_renewed_after_a_change_holds_again() {
        let here = here(&StateKey::generate());
        let mut record = proven(&here);
        record.resources.clear();
        assert!(!here.created(&record));
        record.prove_again(&here);
        assert!(here.created_from(&record, &snapshot()));
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_printed() {
        let key = StateKey::generate();
        assert_eq!(StateKey::parse(&key.expose()), Some(key.clone()));
        assert_ne!(key, StateKey::generate());
        assert_eq!(format!("{key:?}"), "StateKey(…)");
        let text = key.expose();
        for wrong in
            ["", &text[1..], &text.replace(|c: char| c.is_ascii_hexdigit(), "g"), &format!("{text}0")]
        {
            assert_eq!(StateKey::parse(wrong), None, "{wrong}");
        }
    }
}
