//! The contents of a store as one JSON document.
//!
//! A document may come from anyone: every part's size is checked before it is parsed, since a parsed value takes up to
//! eighty bytes of memory where its text takes two.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use goloo_model::name::ArchiveId;
use goloo_model::record;
use goloo_model::store::{Archived, SNAPSHOT_FILES, Snapshot};
use goloo_sys::read;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::budget::Budget;
use super::contents::{ArchivedVm, StoreContents, Vm};

/// The format of documents that this goloo writes.
pub const SCHEMA: u32 = 1;

/// The largest document, in bytes.
pub const FILE_MAX: u64 = 1 << 30;

/// The maximum text of a VM, in bytes: a record and three files of 1 MiB each, in which a character may take six bytes
/// and a value its own line.
const ENTRY_MAX: usize = 32 << 20;
/// The shortest text of a VM: `{"record":{},"files":[]}`.
const ENTRY_MIN: usize = 24;

#[derive(Serialize)]
struct Document {
    schema: u32,
    vms: Vec<VmEntry>,
    archived: Vec<ArchivedEntry>,
}

#[derive(Serialize)]
struct VmEntry {
    record: Value,
    files: Vec<File>,
}

#[derive(Serialize)]
struct ArchivedEntry {
    id: ArchiveId,
    record: Value,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    name: String,
    #[serde(flatten)]
    content: Content,
}

/// Text if it is UTF-8, so that it is readable.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Content {
    Text(String),
    Base64(String),
}

/// The document, ending with a line break.
pub fn to_json(contents: &StoreContents) -> Vec<u8> {
    let vms = contents.vms.iter().map(|vm| VmEntry { record: value(&vm.record), files: files(&vm.snapshot) });
    let archived = contents.archive.iter().map(|gone| ArchivedEntry {
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

/// A document before its VMs are parsed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnreadDocument<'a> {
    schema: u32,
    #[serde(borrow)]
    vms: Entries<'a>,
    #[serde(borrow)]
    archived: Entries<'a>,
}

/// The unparsed texts of VMs.
struct Entries<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of VMs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element::<&RawValue>()? {
                    let length = entry.get().len();
                    if length < ENTRY_MIN {
                        return Err(A::Error::custom(format!("{} is not a VM", entry.get())));
                    }
                    if length > ENTRY_MAX {
                        let message = format!("a VM has {length} bytes, but at most {ENTRY_MAX} are allowed");
                        return Err(A::Error::custom(message));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnreadVm<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(borrow)]
    files: Vec<UnreadFile<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnreadArchivedVm<'a> {
    id: ArchiveId,
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(borrow)]
    files: Vec<UnreadFile<'a>>,
}

#[derive(Deserialize)]
struct UnreadFile<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
}

/// Reads a document; the error says what is wrong with it, and where.
pub fn from_json(bytes: &[u8]) -> Result<StoreContents, String> {
    let document: UnreadDocument<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.schema != SCHEMA {
        let found = document.schema;
        return Err(format!("its format is {found}; this version of goloo reads format {SCHEMA}"));
    }
    let mut budget = Budget::default();
    let mut contents = StoreContents::default();
    for (n, entry) in document.vms.0.into_iter().enumerate() {
        contents.vms.push(vm_of(entry, &mut budget).map_err(|error| format!("/vms/{n}: {error}"))?);
    }
    for (n, entry) in document.archived.0.into_iter().enumerate() {
        let gone = archived_vm_of(entry, &mut budget).map_err(|error| format!("/archived/{n}: {error}"))?;
        contents.archive.push(gone);
    }
    Ok(contents)
}

fn vm_of(entry: &RawValue, budget: &mut Budget) -> Result<Vm, String> {
    let UnreadVm { record, files } = parsed(entry)?;
    Ok(Vm { record: record_of(record, budget)?, snapshot: snapshot_of(files)? })
}

fn archived_vm_of(entry: &RawValue, budget: &mut Budget) -> Result<ArchivedVm, String> {
    let UnreadArchivedVm { id, record, files } = parsed(entry)?;
    let archived = Archived { deleted_at: id.deleted_at(), id, record: record_of(record, budget)? };
    Ok(ArchivedVm { archived, snapshot: snapshot_of(files)? })
}

fn parsed<'a, T: Deserialize<'a>>(entry: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(entry.get()).map_err(|error| error.to_string())
}

fn record_of(text: &RawValue, budget: &mut Budget) -> Result<record::Record, String> {
    let bytes = without_blanks(text.get());
    budget.spend(&bytes)?;
    record::from_json(&bytes).map_err(|error| error.to_string())
}

/// JSON without whitespace between its values, so that indentation doesn't count towards its size.
fn without_blanks(json: &str) -> Vec<u8> {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let begins_or_ends = *byte == b'"' && !is_escaped;
        is_escaped = is_in_string && *byte == b'\\' && !is_escaped;
        is_in_string ^= begins_or_ends;
        is_in_string || !byte.is_ascii_whitespace()
    };
    json.bytes().filter(is_kept).collect()
}

fn snapshot_of(files: Vec<UnreadFile<'_>>) -> Result<Snapshot, String> {
    let mut snapshot = Snapshot::default();
    for UnreadFile { name, text, base64 } in files {
        if !SNAPSHOT_FILES.contains(&&*name) {
            return Err(format!("\"{name}\" is not a file of a VM"));
        }
        let bytes = match (text, base64) {
            (Some(text), None) => text.into_owned().into_bytes(),
            (None, Some(text)) => {
                BASE64_STANDARD.decode(&*text).map_err(|error| format!("{name}: {error}"))?
            }
            _ => return Err(format!("{name}: it must have either text or base64")),
        };
        if bytes.len() as u64 > read::FILE_MAX {
            return Err(format!("{name}: it is larger than {} KiB", read::FILE_MAX >> 10));
        }
        snapshot.files.insert(name.into_owned(), bytes);
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::samples::{in_aws, name, ready, snapshot};

    use super::*;

    #[test]
    fn a_document_survives_a_round_trip() {
        let mut record = in_aws(&name("web"));
        record.extra.insert("later".to_owned(), serde_json::json!({"b": 1, "a": ["\u{e4}", 1.5e300]}));
        let gone = ready(&name("gone"));
        let id = ArchiveId::parse("gone-20250115T103000Z-3f9c").unwrap();
        let archived = Archived { deleted_at: id.deleted_at(), id, record: gone };
        let contents = StoreContents {
            vms: vec![Vm { record: record.clone(), snapshot: snapshot() }],
            archive: vec![ArchivedVm { archived, snapshot: Snapshot::default() }],
        };
        let again = from_json(&to_json(&contents)).unwrap();
        assert_eq!(again, contents);
        assert_eq!(record::to_json(&again.vms[0].record), record::to_json(&record));
    }

    #[test]
    fn mutation_of_documents() {
        let vm = Vm { record: in_aws(&name("web")), snapshot: snapshot() };
        let document = to_json(&StoreContents { vms: vec![vm], archive: Vec::new() });
        goloo_testkit::mutate::run(&[document], |input| {
            if let Ok(contents) = from_json(input) {
                assert_eq!(from_json(&to_json(&contents)).unwrap(), contents);
            }
        });
    }

    /// Documents as an attacker may write them: parsed numbers take far more memory than text.
    #[test]
    fn the_size_of_a_vm_is_checked_before_it_is_parsed() {
        let document = |entry: &str| format!(r#"{{"schema": 1, "vms": [{entry}], "archived": []}}"#);
        let record = |text: &str| document(&format!(r#"{{"record": {text}, "files": []}}"#));
        let file = |text: &str| document(&format!(r#"{{"record": RECORD, "files": [{text}]}}"#));
        let valid = String::from_utf8(record::to_json(&ready(&name("web")))).unwrap();
        let numbers = |count: usize| format!("[{}0]", "0,".repeat(count));
        for (text, said) in [
            (record(&numbers(1 << 20)), "/vms/0: its size is 2097155 bytes; the limit is 1048576"),
            (record(&numbers(17 << 20)), "a VM has 35651612 bytes, but at most 33554432 are allowed"),
            (document("0, 0, 0"), "0 is not a VM"),
            (file(r#"{"name": "config.json"}"#), "/vms/0: config.json: it must have either text or base64"),
            (file(r#"{"name": "config.json", "text": [0]}"#), "/vms/0: invalid type: sequence"),
            (
                file(&format!(r#"{{"name": "config.json", "text": "{}"}}"#, " ".repeat((1 << 20) + 1))),
                "/vms/0: config.json: it is larger than 1024 KiB",
            ),
        ] {
            let error = from_json(text.replace("RECORD", &valid).as_bytes()).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    /// Each record is small enough, but together they would take gigabytes.
    #[test]
    fn the_total_number_of_values_in_records_is_bounded() {
        let mut record = ready(&name("web"));
        let numbers = vec![serde_json::Value::from(0); 9900];
        record.extra.insert("later".to_owned(), serde_json::Value::Array(numbers));
        let text = without_blanks(std::str::from_utf8(&record::to_json(&record)).unwrap());
        let entry = format!(r#"{{"record": {}, "files": []}}"#, String::from_utf8(text).unwrap());
        let document = |count: usize| {
            let entries = vec![entry.as_str(); count].join(",");
            format!(r#"{{"schema": 1, "vms": [{entries}], "archived": []}}"#)
        };
        assert_eq!(from_json(document(2).as_bytes()).unwrap().vms.len(), 2);
        let error = from_json(document(600).as_bytes()).unwrap_err();
        assert!(error.ends_with(": its records have more than 5000000 values"), "{error}");
    }

    #[test]
    fn blanks_in_strings_are_kept() {
        let text = "{ \"a b\" :\n\t\"\\\" c\\\\\" , \"\u{e4} \": [ 1 , 2 ] }";
        let expected = "{\"a b\":\"\\\" c\\\\\",\"\u{e4} \":[1,2]}";
        assert_eq!(without_blanks(text), expected.as_bytes());
    }

    #[test]
    fn errors_are_reported_with_their_position() {
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
