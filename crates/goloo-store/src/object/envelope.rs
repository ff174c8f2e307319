//! What one object holds: a VM's record, the files it was made from, and who may write them.
//!
//! All of it is one JSON document, so that one conditional write changes record and lease together or not
//! at all. Documents that are text are kept as text: a person can read them with any S3 client.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::upgrade::RecordError;
use goloo_core::record::{self, Owner, Record};
use goloo_core::store::{HeldLock, Snapshot};
use goloo_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::rules::{check_file, other_name};
use crate::seal::{Seal, SealError};

/// The format of objects that this goloo writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// More often no lock is taken; whoever takes it next counts on.
const EPOCH_MAX: u64 = 1 << 53;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub format: u32,
    /// New with each write: whoever lost the reply finds out by it whether the write came through. It also
    /// keeps two writes from having the same bytes, and so the same ETag.
    pub write: String,
    /// Raised by whoever takes or breaks the lock.
    pub epoch: u64,
    /// Who may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// An owner whose lock ended against their will, until someone has written after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Owner>,
    /// Where the record goes: whoever comes next after a crash finishes the move to this very place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archiving: Option<ArchiveId>,
    /// The VM; without one the object is a lock, or what is left of a VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Kept>,
}

/// The right to write, for so long after the object's last write by the store's clock. Every write renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub owner: Owner,
    pub seconds: u64,
}

impl Lease {
    /// The last second of it, after a last sign of life at `modified`. A second more, since services tell
    /// neither time with more than whole seconds.
    pub fn end(&self, modified: i64) -> Timestamp {
        lease_end(modified, self.seconds)
    }

    /// The lock of this name that it is, after a last sign of life at `modified`.
    pub fn held(&self, name: VmName, modified: i64) -> HeldLock {
        HeldLock { name, owner: Some(self.owner.clone()), lease_end: Some(self.end(modified)) }
    }
}

/// The last second of a lease of so many seconds.
pub(super) fn lease_end(modified: i64, seconds: u64) -> Timestamp {
    let last = modified.saturating_add_unsigned(seconds).saturating_add(1);
    Timestamp::from_unix(last).unwrap_or_else(Timestamp::now)
}

/// A VM's documents as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    record: Document,
    #[serde(default)]
    snapshot: BTreeMap<String, Document>,
}

/// Bytes; as text when they are text.
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

/// Why a kept record is no sound one.
#[derive(Debug)]
pub(super) enum Unsound {
    /// What is wrong with it.
    Bad(String),
    /// Of a newer format that can't be read here: its number, and what is to be said of it.
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
        Ok(Self { record: Document::new(seal.seal(record::to_json(record))?), snapshot })
    }

    /// The same files beside another record.
    pub fn with_record(&self, record: &Record, seal: &Seal) -> Result<Self, SealError> {
        let record = Document::new(seal.seal(record::to_json(record))?);
        Ok(Self { record, snapshot: self.snapshot.clone() })
    }

    /// The record, which must be called `name`.
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
    /// An object with nothing in it.
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

    /// An archived VM's; without one, what is left of it.
    pub fn in_archive(vm: Option<Kept>) -> Self {
        Self { write: Ulid::new().to_string(), vm, ..Self::empty() }
    }

    /// Whether nothing is lost with the object.
    pub fn is_empty(&self) -> bool {
        self.vm.is_none() && self.lease.is_none()
    }

    /// The same in other hands. Whoever held it before is remembered, if they never gave it back.
    pub fn claimed_with(self, lease: Lease) -> Self {
        let unsettled = self.lease.map(|lost| lost.owner).or(self.unsettled);
        let write = Ulid::new().to_string();
        Self { write, epoch: self.epoch + 1, unsettled, lease: Some(lease), ..self }
    }

    /// The same in nobody's hands, against the holder's will.
    pub fn broken_open(self) -> Self {
        let unsettled = self.lease.map(|lost| lost.owner).or(self.unsettled);
        let write = Ulid::new().to_string();
        Self { write, epoch: self.epoch + 1, unsettled, lease: None, ..self }
    }

    /// The same with this VM. Whoever wrote it has seen to what a former owner left.
    pub fn with_vm(&self, vm: Kept) -> Self {
        Self { vm: Some(vm), unsettled: None, ..self.clone() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match envelope.format {
            FORMAT if envelope.epoch > EPOCH_MAX => {
                Err(format!("the lock's epoch {} is none that goloo writes", envelope.epoch))
            }
            FORMAT => Ok(envelope),
            0 => Err("the object has format 0, which no goloo writes".to_owned()),
            newer => Err(format!(
                "the object has format {newer}; this goloo knows {FORMAT} (it needs a newer one)"
            )),
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

    /// Others write to the bucket too.
    #[test]
    fn mutation_of_objects() {
        let name = samples::name("web");
        let kept = Kept::new(&samples::in_aws(&name), &samples::snapshot(), &Seal::default()).unwrap();
        let lease = Lease { owner: samples::owner(1), seconds: 90 };
        let archiving = ArchiveId::parse("web-20250115T103000Z-3f9c").ok();
        let owned = Envelope { lease: Some(lease), archiving, ..Envelope::empty() };
        let corpus = [Envelope { vm: Some(kept), ..Envelope::empty() }.to_bytes(), owned.to_bytes()];
        mutate::run(&corpus, |input| {
            let Ok(envelope) = Envelope::parse(input) else { return };
            drop(envelope.lease.map(|lease| lease.held(name.clone(), i64::MAX)));
            let Some(vm) = envelope.vm else { return };
            drop(vm.record("web", &Seal::default()));
            if let Ok(snapshot) = vm.snapshot(&Seal::default()) {
                assert!(snapshot.files.keys().all(|file| !file.contains('/')), "{:?}", snapshot.files.keys());
            }
        });
    }

    #[test]
    fn an_object_is_read_as_it_was_written() {
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
    fn an_object_of_a_newer_format_is_not_read() {
        let envelope = Envelope { format: FORMAT + 1, ..Envelope::empty() };
        assert!(Envelope::parse(&envelope.to_bytes()).unwrap_err().contains("format 2"));
        assert!(Envelope::parse(b"{").is_err());
    }
}
