//! Reads the file. Each member has to have its name, its place and a bounded size; nothing in the file is used as a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goloo_model::provider::EmbeddedDisk;
use goloo_model::record::{self, Digest, Record};
use goloo_model::store::{SNAPSHOT_FILES, Snapshot};
use goloo_sys::read;
use serde::Deserialize;

use super::format::{BLOCK, DISK, END, MANIFEST, Manifest, SCHEMA, STATE, SUMS, USER_DATA, members};
use super::sum::{self, DiskSum};
use crate::error::{Error, VmFileError};

/// A file of an exported VM, as far as it has been checked: only the disk's checksum hasn't.
pub struct ExportFile {
    /// The manifest.
    pub manifest: Manifest,
    /// The record of the VM that was exported.
    pub record: Record,
    /// The files that it was created from.
    pub snapshot: Snapshot,
    /// The user-data of its machine.
    pub user_data: Vec<u8>,
    /// Its disk.
    pub disk: EmbeddedDisk,
    file: File,
}

impl ExportFile {
    /// Reads and checks all but the content of the disk.
    ///
    /// # Errors
    /// [`VmFileError::Invalid`], and when it can't be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = read::open(path).map_err(|source| Error::cannot("read", path, source))?;
        let invalid = |reason| VmFileError::Invalid { file: path.to_owned(), reason };
        let content = Content::read(&file).map_err(invalid)?;
        Ok(content.parse(path, file).map_err(invalid)?)
    }

    /// The checksum of its disk, to be compared with the one that it should have.
    pub fn disk_sum(&self) -> DiskSum<'_> {
        DiskSum::new(&self.file, self.disk.offset, self.disk.length)
    }

    /// The error for a disk with another checksum.
    pub fn altered(&self) -> VmFileError {
        let reason = format!("{DISK} doesn't match its checksum");
        VmFileError::Invalid { file: self.disk.file.clone(), reason }
    }
}

/// Where a member is.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    length: u64,
}

/// The members but the disk.
struct Content {
    files: BTreeMap<&'static str, Vec<u8>>,
    disk: Place,
    disk_sum: Digest,
}

impl Content {
    fn read(file: &File) -> Result<Self, String> {
        let places = places(file)?;
        let mut files = BTreeMap::new();
        let mut disk = None;
        for (name, place) in places {
            if name == DISK {
                disk = Some(place);
                continue;
            }
            let length = usize::try_from(place.length).map_err(|error| error.to_string())?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, place.start).map_err(|error| format!("{name}: {error}"))?;
            files.insert(name, bytes);
        }
        let disk = disk.ok_or_else(|| format!("it has no {DISK}"))?;
        let sums = files.remove(SUMS).unwrap_or_default();
        let disk_sum = check_sums(&sums, &files)?;
        Ok(Self { files, disk, disk_sum })
    }

    fn parse(mut self, path: &Path, file: File) -> Result<ExportFile, String> {
        let mut take = |name| self.files.remove(name).unwrap_or_default();
        let manifest = manifest(&take(MANIFEST)).map_err(|reason| format!("in {MANIFEST}: {reason}"))?;
        let record = record::from_json(&take(STATE)).map_err(|error| format!("in {STATE}: {error}"))?;
        let user_data = take(USER_DATA);
        let mut snapshot = Snapshot::default();
        for name in SNAPSHOT_FILES {
            snapshot.files.extend(self.files.remove(name).map(|bytes| (name.to_owned(), bytes)));
        }
        let disk = EmbeddedDisk {
            file: PathBuf::from(path),
            offset: self.disk.start,
            length: self.disk.length,
            sha256: self.disk_sum,
        };
        Ok(ExportFile { manifest, record, snapshot, user_data, disk, file })
    }
}

/// Finds the members by their headers. The file ends where they say.
fn places(file: &File) -> Result<Vec<(&'static str, Place)>, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let rules = members();
    let mut rest = rules.as_slice();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(required) = rest.iter().position(|rule| rule.required) {
        let (name, size) = header_at(file, at, length)?;
        let Some(place) = rest[..=required].iter().position(|rule| rule.name.as_bytes() == name) else {
            let (name, expected) = (String::from_utf8_lossy(&name), rest[required].name);
            return Err(format!("it has \"{name}\" where {expected} is expected"));
        };
        let known = rest[place];
        rest = &rest[place + 1..];
        if size > known.max {
            return Err(format!("{} has {size} bytes, but at most {} are allowed", known.name, known.max));
        }
        let start = at + BLOCK;
        let end = start.saturating_add(size);
        if end > length {
            return Err(format!("it is truncated: {} ends at byte {end}, the file at {length}", known.name));
        }
        found.push((known.name, Place { start, length: size }));
        at = end.next_multiple_of(BLOCK);
    }
    match length.checked_sub(at) {
        Some(rest) if rest == END => Ok(found),
        _ => Err(format!("it has {length} bytes where {} are expected", at + END)),
    }
}

/// The name and the size of the member whose header is here: a regular file.
fn header_at(file: &File, at: u64, length: u64) -> Result<(Vec<u8>, u64), String> {
    if at.saturating_add(BLOCK) > length {
        return Err(format!("it is truncated: the file ends at byte {length}"));
    }
    let mut block = [0; BLOCK as usize];
    file.read_exact_at(&mut block, at).map_err(|error| error.to_string())?;
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(n, byte)| if (148..156).contains(&n) { 32 } else { u32::from(*byte) })
        .sum();
    if header.cksum().ok() != Some(sum) {
        return Err(format!("there is no header of a tar file at byte {at}"));
    }
    let name = header.path_bytes().into_owned();
    if !header.entry_type().is_file() {
        return Err(format!("\"{}\" is not a regular file", String::from_utf8_lossy(&name)));
    }
    let size = header.entry_size().map_err(|error| error.to_string())?;
    Ok((name, size))
}

/// Compares the checksums of all members but the disk; returns the one of the disk.
fn check_sums(sums: &[u8], files: &BTreeMap<&'static str, Vec<u8>>) -> Result<Digest, String> {
    let sums = std::str::from_utf8(sums).map_err(|_| format!("{SUMS} isn't UTF-8"))?;
    let of = |name: &str| {
        let line = sums.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
        line.and_then(Digest::parse).ok_or_else(|| format!("{SUMS} has no checksum of {name}"))
    };
    for (name, bytes) in files {
        if of(name)? != sum::of(bytes) {
            return Err(format!("{name} doesn't match its checksum"));
        }
    }
    of(DISK)
}

fn manifest(bytes: &[u8]) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Schema { schema } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if schema != SCHEMA {
        return Err(format!("its format is {schema}; this version of goloo reads format {SCHEMA}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::samples::{name, ready, snapshot, time};

    use super::super::{ExportedBy, VmFileContent, VmFileWriter};
    use super::*;

    const BYTES: &[u8] = b"a disk that nobody checks here";

    fn manifest() -> Manifest {
        Manifest {
            schema: SCHEMA,
            goloo: "0.1.0".into(),
            exported_at: time("2025-01-15T10:30:00Z"),
            exported_by: ExportedBy { user: "ann".into(), host: "laptop".into() },
            machine: serde_json::json!({"cpus": 1}),
        }
    }

    fn write(path: &Path) {
        let content = VmFileContent {
            manifest: &manifest(),
            record: &ready(&name("web")),
            snapshot: &snapshot(),
            user_data: b"#cloud-config\n",
        };
        let mut writer = VmFileWriter::begin(path).unwrap();
        let offset = writer.write_head(&content).unwrap();
        let staged = File::options().write(true).open(writer.path()).unwrap();
        staged.write_all_at(BYTES, offset).unwrap();
        let (mut sum, length) = writer.disk_sum().unwrap();
        while sum.step().unwrap().is_some() {}
        let digest = sum.digest();
        writer.publish(digest, length).unwrap();
    }

    #[test]
    fn a_file_survives_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.goloo");
        write(&path);
        let read = ExportFile::read(&path).unwrap();
        assert_eq!((&read.manifest, &read.snapshot), (&manifest(), &snapshot()));
        assert_eq!((read.record.name.as_str(), &*read.user_data), ("web", &b"#cloud-config\n"[..]));
        assert_eq!((read.disk.length, &read.disk.sha256), (BYTES.len() as u64, &sum::of(BYTES)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let writer = VmFileWriter::begin(&folder.path().join("web.goloo")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn mutated_files_are_refused_or_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.goloo");
        write(&path);
        let good = std::fs::read(&path).unwrap();
        goloo_testkit::mutate::run(&[good], |input| {
            std::fs::write(&path, input).unwrap();
            if let Ok(read) = ExportFile::read(&path) {
                assert!(read.disk.offset + read.disk.length <= input.len() as u64);
            }
        });
    }
}
