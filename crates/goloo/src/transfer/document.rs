//! All that a store holds as one JSON document.

use base64::prelude::{BASE64_STANDARD, Engine};
use goloo_core::name::ArchiveId;
use goloo_core::record;
use goloo_core::store::{Archived, SNAPSHOT_FILES, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Gone, Vm, Whole};

/// The format of documents that this goloo writes.
pub const SCHEMA: u32 = 1;

/// The largest document, in bytes.
pub const FILE_MAX: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    vms: Vec<VmEntry>,
    archived: Vec<GoneEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VmEntry {
    record: Value,
    files: Vec<File>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoneEntry {
    id: ArchiveId,
    record: Value,
    files: Vec<File>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    #[serde(flatten)]
    content: Content,
}

/// Text where it is some, so that a person can read it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Content {
    Text(String),
    Base64(String),
}

/// The document, ending with a line break.
pub fn to_json(whole: &Whole) -> Vec<u8> {
    let vms = whole.vms.iter().map(|vm| VmEntry { record: value(&vm.record), files: files(&vm.snapshot) });
    let archived = whole.archive.iter().map(|gone| GoneEntry {
        id: gone.archived.id.clone(),
        record: value(&gone.archived.record),
        files: files(&gone.snapshot),
    });
    let document = Document { schema: SCHEMA, vms: vms.collect(), archived: archived.collect() };
    let mut bytes = serde_json::to_vec_pretty(&document).expect("a document has only string keys");
    bytes.push(b'\n');
    bytes
}

fn value(record: &record::Record) -> Value {
    serde_json::from_slice(&record::to_json(record)).expect("a record is JSON")
}

fn files(snapshot: &Snapshot) -> Vec<File> {
    let content = |bytes: &Vec<u8>| match String::from_utf8(bytes.clone()) {
        Ok(text) => Content::Text(text),
        Err(_) => Content::Base64(BASE64_STANDARD.encode(bytes)),
    };
    snapshot.files.iter().map(|(name, bytes)| File { name: name.clone(), content: content(bytes) }).collect()
}

/// Reads a document; the error says what is wrong with it, and where.
pub fn from_json(bytes: &[u8]) -> Result<Whole, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.schema != SCHEMA {
        let found = document.schema;
        return Err(format!("its format is {found}; this goloo reads format {SCHEMA}"));
    }
    let mut whole = Whole::default();
    for (n, entry) in document.vms.into_iter().enumerate() {
        let vm =
            record_of(entry.record).and_then(|record| Ok(Vm { record, snapshot: snapshot_of(entry.files)? }));
        whole.vms.push(vm.map_err(|error| format!("/vms/{n}: {error}"))?);
    }
    for (n, entry) in document.archived.into_iter().enumerate() {
        let deleted_at = entry.id.deleted_at();
        let gone = record_of(entry.record).and_then(|record| {
            let archived = Archived { id: entry.id, deleted_at, record };
            Ok(Gone { archived, snapshot: snapshot_of(entry.files)? })
        });
        whole.archive.push(gone.map_err(|error| format!("/archived/{n}: {error}"))?);
    }
    Ok(whole)
}

fn record_of(value: Value) -> Result<record::Record, String> {
    let bytes = serde_json::to_vec(&value).expect("a value has only string keys");
    record::from_json(&bytes).map_err(|error| error.to_string())
}

fn snapshot_of(files: Vec<File>) -> Result<Snapshot, String> {
    let mut snapshot = Snapshot::default();
    for File { name, content } in files {
        if !SNAPSHOT_FILES.contains(&name.as_str()) {
            return Err(format!("a VM isn't made from a file \"{name}\""));
        }
        let bytes = match content {
            Content::Text(text) => text.into_bytes(),
            Content::Base64(text) => {
                BASE64_STANDARD.decode(text).map_err(|error| format!("{name}: {error}"))?
            }
        };
        snapshot.files.insert(name, bytes);
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::samples::{in_aws, name, ready, snapshot};

    use super::*;

    #[test]
    fn what_is_written_is_read_again_byte_for_byte() {
        let mut record = in_aws(&name("web"));
        record.extra.insert("later".to_owned(), serde_json::json!({"b": 1, "a": ["\u{e4}", 1.5e300]}));
        let gone = ready(&name("gone"));
        let id = ArchiveId::parse("gone-20250115T103000Z-3f9c").unwrap();
        let archived = Archived { deleted_at: id.deleted_at(), id, record: gone };
        let whole = Whole {
            vms: vec![Vm { record: record.clone(), snapshot: snapshot() }],
            archive: vec![Gone { archived, snapshot: Snapshot::default() }],
        };
        let again = from_json(&to_json(&whole)).unwrap();
        assert_eq!(again, whole);
        assert_eq!(record::to_json(&again.vms[0].record), record::to_json(&record));
    }

    #[test]
    fn mutation_of_documents() {
        let vm = Vm { record: in_aws(&name("web")), snapshot: snapshot() };
        let document = to_json(&Whole { vms: vec![vm], archive: Vec::new() });
        goloo_testkit::mutate::run(&[document], |input| {
            if let Ok(whole) = from_json(input) {
                assert_eq!(from_json(&to_json(&whole)).unwrap(), whole);
            }
        });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, said) in [
            ("{", "EOF"),
            (r#"{"schema": 2, "vms": [], "archived": []}"#, "its format is 2"),
            (
                r#"{"schema": 1, "vms": [{"record": {}, "files": []}], "archived": []}"#,
                "/vms/0: missing field",
            ),
            (r#"{"schema": 1, "vms": []}"#, "missing field `archived`"),
        ] {
            let error = from_json(text.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
