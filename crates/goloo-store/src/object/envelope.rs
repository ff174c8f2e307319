//! The content of one object: a VM's record, the files it was created from, and its lease.
//!
//! All of it is one JSON document, so that one conditional write changes record and lease
//! atomically. Text documents are stored as text: a person can read them with any S3 client.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::RecordError;
use goloo_model::record::{self, Owner, Record};
use goloo_model::store::{HeldLock, Snapshot};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::lease::{EPOCH_MAX, Lease, Succession};
use crate::rules::{check_file, document, other_name};
use crate::seal::{Seal, SealError};

/// The format of objects that this goloo writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// The content of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub format: u32,
    /// Unique for each write: after a lost reply, a writer can tell whether the write succeeded. It also
    /// prevents two writes with the same bytes, and so the same ETag.
    pub write: String,
    /// Incremented when the lock is taken or broken.
    pub epoch: u64,
    /// The current lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Holder>,
    /// An owner who lost their lock, until someone else has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Owner>,
    /// The record's archive id: the next process after a crash completes the move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archiving: Option<ArchiveId>,
    /// The VM; without one the object is a lock, or the remainder of a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Kept>,
}

/// Who may write, for so long after the object's last write by the store's clock: every write is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub owner: Owner,
    pub seconds: u64,
}

impl Holder {
    /// The lease after a last heartbeat at `modified`.
    pub fn lease(&self, modified: i64) -> Lease {
        lease(modified, self.seconds)
    }

    /// The lock of this name that it is, after a last heartbeat at `modified`.
    pub fn lock(&self, name: VmName, modified: i64) -> HeldLock {
        let lease_end = Some(self.lease(modified).shown());
        HeldLock { name, owner: Some(self.owner.clone()), lease_end }
    }
}

/// A lease of so many seconds. It lasts one more, since services tell neither time with more than whole seconds.
pub(super) fn lease(heartbeat: i64, seconds: u64) -> Lease {
    Lease::since(heartbeat, seconds.saturating_add(1))
}

/// A VM's documents as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    record: Document,
    #[serde(default)]
    snapshot: BTreeMap<String, Document>,
}

/// Bytes, stored as text if they are valid text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Bytes { base64: String },
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes { base64: BASE64.encode(error.as_bytes()) },
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Bytes { base64 } => BASE64.decode(base64).map_err(|error| error.to_string()),
        }
    }

    fn open(&self, seal: &Seal) -> Result<Vec<u8>, String> {
        let kept = self.bytes()?;
        Ok(seal.open(&kept).map_err(|error| error.to_string())?.into_owned())
    }
}

/// Why a stored record isn't valid.
#[derive(Debug)]
pub(super) enum Unsound {
    /// The error.
    Bad(String),
    /// A newer format that can't be read here: its number, and the error.
    Newer(u32, String),
}

impl Unsound {
    pub fn text(self) -> String {
        match self {
            Self::Bad(text) | Self::Newer(_, text) => text,
        }
    }
}

impl Kept {
    pub fn new(record: &Record, snapshot: &Snapshot, seal: &Seal) -> Result<Self, SealError> {
        let file =
            |(file, bytes): (&String, &Vec<u8>)| Ok((file.clone(), Document::new(seal.seal(bytes.clone())?)));
        let snapshot = snapshot.files.iter().map(file).collect::<Result<_, _>>()?;
        Ok(Self { record: Document::new(seal.seal(document(record))?), snapshot })
    }

    /// The same files with another record.
    pub fn with_record(&self, record: &Record, seal: &Seal) -> Result<Self, SealError> {
        let record = Document::new(seal.seal(document(record))?);
        Ok(Self { record, snapshot: self.snapshot.clone() })
    }

    /// The record, which must have the name `name`.
    pub fn record(&self, name: &str, seal: &Seal) -> Result<Record, Unsound> {
        let json = self.record.open(seal).map_err(Unsound::Bad)?;
        match record::from_json(&json) {
            Ok(record) if record.name.as_str() == name => Ok(record),
            Ok(record) => Err(Unsound::Bad(other_name(record.name.as_str(), name))),
            Err(error @ RecordError::Newer { schema, .. }) => Err(Unsound::Newer(schema, error.to_string())),
            Err(error) => Err(Unsound::Bad(error.to_string())),
        }
    }

    pub fn snapshot(&self, seal: &Seal) -> Result<Snapshot, String> {
        let file = |(name, document): (&String, &Document)| {
            let content = document.open(seal)?;
            check_file(name, &content).map(|()| (name.clone(), content))
        };
        Ok(Snapshot { files: self.snapshot.iter().map(file).collect::<Result<_, String>>()? })
    }
}

impl Envelope {
    /// An object without content.
    pub fn empty() -> Self {
        Self {
            format: FORMAT,
            write: String::new(),
            epoch: 0,
            lease: None,
            unsettled: None,
            archiving: None,
            vm: None,
        }
    }

    /// The object of an archived VM; without one, the remainder of a removed one.
    pub fn in_archive(vm: Option<Kept>) -> Self {
        Self { write: Ulid::new().to_string(), vm, ..Self::empty() }
    }

    /// Whether the object can be removed without losing anything.
    pub fn is_empty(&self) -> bool {
        self.vm.is_none() && self.lease.is_none()
    }

    /// The same in other hands.
    pub fn claimed_by(self, holder: Holder) -> Self {
        self.handed_to(Some(holder))
    }

    /// The same without a lease, against the holder's will.
    pub fn broken_open(self) -> Self {
        self.handed_to(None)
    }

    fn handed_to(self, holder: Option<Holder>) -> Self {
        let lost = self.lease.map(|lost| lost.owner);
        let Succession { epoch, unsettled } = Succession::after(Some(self.epoch), lost, self.unsettled);
        let write = Ulid::new().to_string();
        Self { write, epoch, unsettled, lease: holder, ..self }
    }

    /// The same with this VM. Its writer has dealt with the unfinished work of a former owner.
    pub fn with_vm(&self, vm: Kept) -> Self {
        Self { vm: Some(vm), unsettled: None, ..self.clone() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match envelope.format {
            FORMAT if envelope.epoch > EPOCH_MAX => {
                Err(format!("the lock's epoch {} is not one that goloo writes", envelope.epoch))
            }
            FORMAT => Ok(envelope),
            0 => Err("the object has format 0, which no version of goloo writes".to_owned()),
            newer => {
                Err(format!("the object has format {newer}, and this goloo supports {FORMAT}; update goloo"))
            }
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("an envelope has only string keys");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use goloo_testkit::{mutate, samples};

    use super::*;

    /// Others write to the bucket too, so any stored value must be handled.
    #[test]
    fn the_next_epoch_is_always_different_and_readable() {
        for epoch in [0, EPOCH_MAX - 1, EPOCH_MAX] {
            let envelope = Envelope { epoch, ..Envelope::in_archive(None) }.broken_open();
            assert!(envelope.epoch != epoch && Envelope::parse(&envelope.to_bytes()).is_ok(), "{epoch}");
        }
    }

    #[test]
    fn mutated_objects_do_not_cause_a_panic() {
        let name = samples::name("web");
        let kept = Kept::new(&samples::in_aws(&name), &samples::snapshot(), &Seal::default()).unwrap();
        let lease = Holder { owner: samples::owner(1), seconds: 90 };
        let archiving = ArchiveId::parse("web-20250115T103000Z-3f9c").ok();
        let owned = Envelope { lease: Some(lease), archiving, ..Envelope::empty() };
        let corpus = [Envelope { vm: Some(kept), ..Envelope::empty() }.to_bytes(), owned.to_bytes()];
        mutate::run(&corpus, |input| {
            let Ok(envelope) = Envelope::parse(input) else { return };
            drop(envelope.lease.map(|lease| lease.lock(name.clone(), i64::MAX)));
            let Some(vm) = envelope.vm else { return };
            drop(vm.record("web", &Seal::default()));
            if let Ok(snapshot) = vm.snapshot(&Seal::default()) {
                assert!(snapshot.files.keys().all(|file| !file.contains('/')), "{:?}", snapshot.files.keys());
            }
        });
    }

    #[test]
    fn an_object_survives_a_round_trip() {
        let files = BTreeMap::from([
            ("config.json".to_owned(), b"{}\r\n\xff\x00".to_vec()),
            ("configure.sh".to_owned(), b"#!/bin/sh\n".to_vec()),
        ]);
        let documents: BTreeMap<_, _> =
            files.iter().map(|(name, bytes)| (name.clone(), Document::new(bytes.clone()))).collect();
        assert_eq!(documents["configure.sh"], Document::Text("#!/bin/sh\n".to_owned()));
        let vm = Kept { record: Document::new(b"{ }".to_vec()), snapshot: documents };
        let envelope = Envelope { epoch: 3, write: "w".to_owned(), ..Envelope::in_archive(Some(vm)) };
        let again = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert_eq!(again, envelope);
        assert_eq!(again.vm.unwrap().snapshot(&Seal::default()).unwrap().files, files);
    }

    #[test]
    fn an_object_of_a_newer_format_is_refused() {
        let envelope = Envelope { format: FORMAT + 1, ..Envelope::empty() };
        assert!(Envelope::parse(&envelope.to_bytes()).unwrap_err().contains("format 2"));
        assert!(Envelope::parse(b"{").is_err());
    }
}
