//! A backup: a tar file, compressed with zstd, that ends with the SHA-256 of everything before it.
//!
//! The hash is in a skippable frame (RFC 8878, 3.1.2), which other programs ignore: `tar --zstd -xf` unpacks a backup.
//! In the tar file `manifest.json` comes first and has the SHA-256 of every file. Nothing is extracted to the paths in
//! it: they only identify the content. A backup may come from anyone: its unpacked size is limited, and nothing may
//! follow its end.

use std::collections::BTreeMap;
use std::io::Cursor;

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record;
use goloo_model::secret::PrivateKey;
use goloo_model::store::{Archived, SNAPSHOT_FILES, Snapshot};
use goloo_model::time::Timestamp;
use goloo_sys::read;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::budget::Budget;
use super::contents::{ArchivedVm, StoreContents, Vm};

const SCHEMA: u32 = 1;
const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
/// goloo's own client key, without which it can't log in to the VMs.
const CLIENT_KEY: &str = "keys/id_ed25519";
/// Magic number of a skippable frame and the length of its content, both little-endian.
const TRAILER: [u8; 8] = [0x5E, 0x2A, 0x4D, 0x18, 32, 0, 0, 0];
const TRAILER_LENGTH: usize = TRAILER.len() + 32;
/// The largest backup file, in bytes.
pub const FILE_MAX: u64 = 256 << 20;
/// The maximum unpacked size of a backup, in bytes.
const UNPACKED_MAX: u64 = 1 << 30;
/// The largest manifest, in bytes; it takes about 150 for each file.
const MANIFEST_MAX: u64 = 64 << 20;
/// How many bytes one compressed byte may unpack to, beyond [`UNPACKED_FREE`].
const RATIO_MAX: u64 = 1000;
const UNPACKED_FREE: u64 = 64 << 20;

/// The maximum unpacked size for this many compressed bytes.
fn unpacked_limit(compressed: usize) -> u64 {
    (compressed as u64).saturating_mul(RATIO_MAX).saturating_add(UNPACKED_FREE).min(UNPACKED_MAX)
}

/// The contents of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupBundle {
    /// When it was made.
    pub created_at: Timestamp,
    /// The store that it was created from, as displayed.
    pub from: String,
    /// The records.
    pub contents: StoreContents,
    /// goloo's private client key, if there was one.
    pub client_key: Option<ClientKey>,
}

/// goloo's private client key, as a backup holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// In OpenSSH's format.
    pub private: PrivateKey,
    /// SHA-256 of the public half, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

impl ClientKey {
    /// Reads one unencrypted private key; the error says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let key = ssh_key::PrivateKey::from_openssh(text).map_err(|error| error.to_string())?;
        if key.is_encrypted() {
            return Err("it is encrypted with a passphrase".to_owned());
        }
        let fingerprint = key.public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string();
        Ok(Self { private: PrivateKey::new(text.to_owned()), fingerprint })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema: u32,
    created_at: Timestamp,
    from: String,
    goloo: String,
    files: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    path: String,
    sha256: String,
}

type Files = Vec<(String, Vec<u8>)>;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl BackupBundle {
    /// The backup's bytes.
    ///
    /// # Errors
    /// When it is larger than [`Self::from_bytes`] accepts.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let files = self.files();
        let listed = files.iter().map(|(path, bytes)| Listed { path: path.clone(), sha256: sha256(bytes) });
        let manifest = Manifest {
            schema: SCHEMA,
            created_at: self.created_at,
            from: self.from.clone(),
            goloo: env!("CARGO_PKG_VERSION").to_owned(),
            files: listed.collect(),
        };
        let manifest = serde_json::to_vec_pretty(&manifest).expect("a manifest has only string keys");
        let mut budget = Budget::default();
        let mut states = files.iter().filter(|(path, _)| path.ends_with(STATE));
        if manifest.len() as u64 > MANIFEST_MAX || states.any(|(_, state)| budget.spend(state).is_err()) {
            return Err(format!("{} files are too many for one backup", files.len()));
        }
        let mut tar = tar::Builder::new(Vec::new());
        let all = std::iter::once((MANIFEST.to_owned(), manifest)).chain(files);
        for (path, bytes) in all {
            append(&mut tar, &path, &bytes, self.created_at).expect("memory takes any file");
        }
        let tar = tar.into_inner().expect("memory takes the end");
        let mut backup = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        if tar.len() as u64 > unpacked_limit(backup.len()) || backup.len() as u64 > FILE_MAX {
            return Err(format!("{} MiB is too much for one backup", tar.len() >> 20));
        }
        let hash = Sha256::digest(&backup);
        backup.extend(TRAILER);
        backup.extend(hash);
        Ok(backup)
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        for vm in &self.contents.vms {
            let folder = format!("active/{}", vm.record.name);
            add(&mut files, &folder, record::to_json(&vm.record), &vm.snapshot);
        }
        for gone in &self.contents.archive {
            let folder = format!("archive/{}", gone.archived.id);
            add(&mut files, &folder, record::to_json(&gone.archived.record), &gone.snapshot);
        }
        let key = |key: &ClientKey| (CLIENT_KEY.to_owned(), key.private.expose().as_bytes().to_vec());
        files.extend(self.client_key.iter().map(key));
        files
    }

    /// Reads and validates a backup; the error says what is wrong, and where.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (compressed, trailer) = bytes
            .len()
            .checked_sub(TRAILER_LENGTH)
            .map(|at| bytes.split_at(at))
            .ok_or("it is too short to be a backup")?;
        if trailer[..TRAILER.len()] != TRAILER {
            return Err(format!("it is incomplete: its end, at byte {}, is missing", bytes.len()));
        }
        let intact = trailer[TRAILER.len()..] == *Sha256::digest(compressed);
        let files = unpack(compressed);
        if !intact {
            let place = files.and_then(|files| check(&files).map(drop)).err();
            let place = place.unwrap_or_else(|| "in its checksum or in unused bytes".to_owned());
            return Err(format!("it was altered: {place}"));
        }
        let files = files?;
        let manifest = check(&files)?;
        sort(manifest, files.into_iter().skip(1).collect())
    }
}

fn add(files: &mut Files, folder: &str, state: Vec<u8>, snapshot: &Snapshot) {
    files.push((format!("{folder}/{STATE}"), state));
    files.extend(snapshot.files.iter().map(|(file, bytes)| (format!("{folder}/{file}"), bytes.clone())));
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], at: Timestamp) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(at.unix()).unwrap_or(0));
    tar.append_data(&mut header, path, bytes)
}

fn unpack(compressed: &[u8]) -> Result<Files, String> {
    let tar = decompress(compressed)?;
    let mut files = Files::new();
    let mut end = 0;
    let mut archive = tar::Archive::new(tar.as_slice());
    let broken = |files: &Files, error: std::io::Error| {
        let after = files.last().map_or("at its beginning".to_owned(), |(path, _)| format!("after {path}"));
        format!("it can't be read {after}: {error}")
    };
    for entry in archive.entries().map_err(|error| broken(&files, error))? {
        let entry = entry.map_err(|error| broken(&files, error))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(format!("\"{path}\" is not a regular file"));
        }
        end = entry.raw_file_position().saturating_add(entry.size().next_multiple_of(512));
        let max = if path == MANIFEST { MANIFEST_MAX } else { read::FILE_MAX };
        let content = read::stream(entry, max).map_err(|error| format!("\"{path}\": {error}"))?;
        files.push((path, content));
    }
    let rest = usize::try_from(end).ok().and_then(|end| tar.get(end..)).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        return Err("there is data after its last file".to_owned());
    }
    Ok(files)
}

fn decompress(compressed: &[u8]) -> Result<Vec<u8>, String> {
    let limit = unpacked_limit(compressed.len());
    let mut source = Cursor::new(compressed);
    let unpacked = StreamingDecoder::new(&mut source)
        .map_err(|error| error.to_string())
        .and_then(|decoder| read::stream(decoder, limit).map_err(|error| error.to_string()));
    let at = source.position();
    let tar = unpacked.map_err(|error| format!("it can't be unpacked after byte {at}: {error}"))?;
    if at != compressed.len() as u64 {
        return Err(format!("there is data after its end, at byte {at}"));
    }
    Ok(tar)
}

/// Checks that the files match the manifest, including their hashes.
fn check(files: &Files) -> Result<Manifest, String> {
    let (first, bytes) = files.first().ok_or("it has no files")?;
    if first != MANIFEST {
        return Err(format!("it begins with \"{first}\", not with {MANIFEST}"));
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| format!("in {MANIFEST}: {error}"))?;
    if manifest.schema != SCHEMA {
        return Err(format!(
            "its format is {}; this version of goloo reads format {SCHEMA}",
            manifest.schema
        ));
    }
    let mut found = files.iter().skip(1);
    for listed in &manifest.files {
        match found.next() {
            Some((path, bytes)) if *path == listed.path && sha256(bytes) == listed.sha256 => {}
            _ => return Err(format!("in {}", listed.path)),
        }
    }
    match found.next() {
        None => Ok(manifest),
        Some((path, _)) => Err(format!("\"{path}\" isn't in its manifest")),
    }
}

/// Classifies the files by their paths.
fn sort(manifest: Manifest, files: Files) -> Result<BackupBundle, String> {
    let mut client_key = None;
    let mut folders: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    let mut order = Vec::new();
    for (path, bytes) in files {
        match path.rsplit_once('/') {
            _ if path == CLIENT_KEY => {
                let key = ClientKey::parse(&bytes).map_err(|error| format!("in {CLIENT_KEY}: {error}"))?;
                client_key = Some(key);
            }
            Some((folder, file)) if file == STATE || SNAPSHOT_FILES.contains(&file) => {
                if file == STATE {
                    order.push(folder.to_owned());
                }
                let folder_files = folders.entry(folder.to_owned()).or_default();
                if folder_files.insert(file.to_owned(), bytes).is_some() {
                    return Err(format!("{path} appears twice"));
                }
            }
            _ => return Err(format!("\"{path}\" does not belong in a backup")),
        }
    }
    let mut budget = Budget::default();
    let mut contents = StoreContents::default();
    for folder in order {
        let mut files = folders.remove(&folder).ok_or_else(|| format!("{folder} appears twice"))?;
        let state = files.remove(STATE).unwrap_or_default();
        let record = budget
            .spend(&state)
            .and_then(|()| record::from_json(&state).map_err(|error| error.to_string()))
            .map_err(|error| format!("in {folder}/{STATE}: {error}"))?;
        let belongs = |name: &str| record.name.as_str() == name;
        match folder.split_once('/') {
            Some(("active", name)) if VmName::parse(name).is_ok() && belongs(name) => {
                contents.vms.push(Vm { record, snapshot: Snapshot { files } });
            }
            Some(("archive", id)) if ArchiveId::parse(id).is_ok_and(|id| belongs(id.name())) => {
                let id = ArchiveId::parse(id).map_err(|error| error.to_string())?;
                let archived = Archived { deleted_at: id.deleted_at(), id, record };
                contents.archive.push(ArchivedVm { archived, snapshot: Snapshot { files } });
            }
            _ => {
                return Err(format!(
                    "\"{folder}\" is not a valid folder for the record of \"{}\"",
                    record.name
                ));
            }
        }
    }
    match folders.into_keys().next() {
        Some(folder) => Err(format!("{folder} has no {STATE}")),
        None => {
            Ok(BackupBundle { created_at: manifest.created_at, from: manifest.from, contents, client_key })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::host_key::HostKey;
    use goloo_testkit::samples::{in_aws, name, ready, snapshot, time};

    use std::io::Read as _;

    use super::*;

    fn bundle() -> BackupBundle {
        let id = ArchiveId::parse("gone-20250115T103000Z-3f9c").unwrap();
        let archived = Archived { deleted_at: id.deleted_at(), id, record: ready(&name("gone")) };
        let vm = |name: &str| Vm { record: in_aws(&self::name(name)), snapshot: snapshot() };
        BackupBundle {
            created_at: time("2025-02-01T00:00:00Z"),
            from: "/home/ann/.local/share/goloo".to_owned(),
            contents: StoreContents {
                vms: vec![vm("api"), vm(&"w".repeat(63))],
                archive: vec![ArchivedVm { archived, snapshot: snapshot() }],
            },
            client_key: Some(client_key()),
        }
    }

    fn client_key() -> ClientKey {
        ClientKey::parse(HostKey::generate().private_openssh.expose().as_bytes()).unwrap()
    }

    #[test]
    fn a_backup_survives_a_round_trip() {
        let bundle = bundle();
        assert_eq!(BackupBundle::from_bytes(&bundle.to_bytes().unwrap()).unwrap(), bundle);
        let empty = BackupBundle { contents: StoreContents::default(), client_key: None, ..bundle };
        assert_eq!(BackupBundle::from_bytes(&empty.to_bytes().unwrap()).unwrap(), empty);
    }

    /// Mutated backups with valid checksums, for the whole and for each file, as an attacker would create them.
    #[test]
    fn mutation_of_backups() {
        let bytes = bundle().to_bytes().unwrap();
        let compressed = bytes[..bytes.len() - TRAILER_LENGTH].to_vec();
        goloo_testkit::mutate::run(std::slice::from_ref(&compressed), |input| {
            drop(BackupBundle::from_bytes(&sealed(input.to_vec())))
        });
        let tar = decompress(&compressed).unwrap();
        goloo_testkit::mutate::run(&[tar], |input| {
            drop(BackupBundle::from_bytes(&sealed(compress_to_vec(input, CompressionLevel::Fastest))));
        });
        let state = record::to_json(&in_aws(&name("api")));
        goloo_testkit::mutate::run(&[state, client_key().private.expose().as_bytes().to_vec()], |input| {
            let files = [("active/api/state.json", input), (CLIENT_KEY, input)];
            for file in files {
                drop(BackupBundle::from_bytes(&forged(&[file], tar::EntryType::Regular)));
            }
        });
    }

    #[test]
    fn a_backup_truncated_at_any_byte_is_refused() {
        let bytes = bundle().to_bytes().unwrap();
        for length in 0..bytes.len() {
            let error = BackupBundle::from_bytes(&bytes[..length]).unwrap_err();
            assert!(error.contains("short") || error.contains("end"), "{length}: {error}");
        }
    }

    #[test]
    fn a_backup_altered_at_any_byte_is_refused_with_the_position() {
        let bytes = bundle().to_bytes().unwrap();
        let mut places = std::collections::BTreeSet::new();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let error = BackupBundle::from_bytes(&altered).unwrap_err();
            assert!(error.contains("altered: ") || error.contains("its end"), "{at}: {error}");
            places.insert(error);
        }
        assert!(places.len() > 10, "{places:?}");
        assert!(places.iter().any(|place| place.contains("active/api/")), "{places:?}");
    }

    /// A backup as an attacker would create it: all hashes are valid.
    fn forged(files: &[(&str, &[u8])], kind: tar::EntryType) -> Vec<u8> {
        let listed =
            files.iter().map(|(path, bytes)| serde_json::json!({"path": path, "sha256": sha256(bytes)}));
        let manifest = serde_json::json!({
            "schema": 1, "createdAt": "2025-02-01T00:00:00Z", "from": "/x", "goloo": "0.1.0",
            "files": listed.collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for (n, (path, bytes)) in [(MANIFEST, manifest.as_slice())].iter().chain(files).enumerate() {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            if n > 0 {
                header.set_entry_type(kind);
            }
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        let mut backup = compress_to_vec(tar.into_inner().unwrap().as_slice(), CompressionLevel::Fastest);
        let hash = Sha256::digest(&backup);
        backup.extend(TRAILER);
        backup.extend(hash);
        backup
    }

    /// Any tar file as a backup.
    fn sealed(mut compressed: Vec<u8>) -> Vec<u8> {
        let hash = Sha256::digest(&compressed);
        compressed.extend(TRAILER);
        compressed.extend(hash);
        compressed
    }

    #[test]
    fn a_decompression_bomb_is_stopped_at_the_limit() {
        let bomb = compress_to_vec(std::io::repeat(0).take(256 << 20), CompressionLevel::Fastest);
        assert!(bomb.len() < 100 << 10, "{}", bomb.len());
        let error = BackupBundle::from_bytes(&sealed(bomb)).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn a_file_in_a_backup_has_the_size_limit_of_a_store() {
        let large = vec![b' '; read::FILE_MAX as usize + 1];
        let error =
            BackupBundle::from_bytes(&forged(&[("active/api/config.json", &large)], tar::EntryType::Regular));
        assert_eq!(error.unwrap_err(), "\"active/api/config.json\": it is larger than 1 MiB");
    }

    #[test]
    fn the_number_of_values_and_the_size_of_the_manifest_are_bounded() {
        let mut record = ready(&name("api"));
        let numbers = vec![serde_json::Value::from(0); 9900];
        record.extra.insert("later".to_owned(), serde_json::Value::Array(numbers));
        // Without the indentation it is small enough for a record.
        let text = serde_json::to_vec(
            &serde_json::from_slice::<serde_json::Value>(&record::to_json(&record)).unwrap(),
        );
        let state = String::from_utf8(text.unwrap()).unwrap();
        let names: Vec<_> =
            (0..600).map(|n| (format!("api{n}"), format!("active/api{n}/state.json"))).collect();
        let states: Vec<_> =
            names.iter().map(|(name, _)| state.replace("\"api\"", &format!("\"{name}\""))).collect();
        let files: Vec<_> =
            names.iter().zip(&states).map(|((_, path), state)| (path.as_str(), state.as_bytes())).collect();
        assert_eq!(
            BackupBundle::from_bytes(&forged(&files[..2], tar::EntryType::Regular))
                .unwrap()
                .contents
                .vms
                .len(),
            2
        );
        let error = BackupBundle::from_bytes(&forged(&files, tar::EntryType::Regular)).unwrap_err();
        assert!(error.ends_with("state.json: its records have more than 5000000 values"), "{error}");

        let mut tar = tar::Builder::new(Vec::new());
        let manifest = vec![b' '; MANIFEST_MAX as usize + 1];
        append(&mut tar, MANIFEST, &manifest, time("2025-02-01T00:00:00Z")).unwrap();
        let tar = tar.into_inner().unwrap();
        let error = unpack(&compress_to_vec(tar.as_slice(), CompressionLevel::Fastest)).unwrap_err();
        assert_eq!(error, "\"manifest.json\": it is larger than 64 MiB");
    }

    #[test]
    fn trailing_data_in_a_backup_is_refused() {
        let bundle = bundle();
        let bytes = bundle.to_bytes().unwrap();
        let compressed = &bytes[..bytes.len() - TRAILER_LENGTH];
        let second = compress_to_vec(&b"more"[..], CompressionLevel::Fastest);
        for behind in [&second[..], b"x", &bytes[compressed.len()..]] {
            let error = BackupBundle::from_bytes(&sealed([compressed, behind].concat())).unwrap_err();
            assert!(error.contains("after its end"), "{error}");
        }
        let mut tar = decompress(compressed).unwrap();
        tar.extend([0; 512]);
        let padded = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        assert_eq!(BackupBundle::from_bytes(&sealed(padded)).unwrap().contents, bundle.contents);
        tar.extend(b"hidden");
        let hidden = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        let error = BackupBundle::from_bytes(&sealed(hidden)).unwrap_err();
        assert_eq!(error, "there is data after its last file");
    }

    #[test]
    fn an_invalid_client_key_and_a_duplicate_file_are_refused() {
        let refused = |files: &[(&str, &[u8])]| {
            BackupBundle::from_bytes(&forged(files, tar::EntryType::Regular)).unwrap_err()
        };
        let key = client_key();
        let private = key.private.expose().as_bytes();
        let restored = BackupBundle::from_bytes(&forged(&[(CLIENT_KEY, private)], tar::EntryType::Regular));
        assert_eq!(restored.unwrap().client_key, Some(key.clone()));
        assert!(key.fingerprint.starts_with("SHA256:"));
        for bad in [&b"not a key"[..], &private[..private.len() / 2], b"\xff", b""] {
            let error = refused(&[(CLIENT_KEY, bad)]);
            assert!(error.starts_with("in keys/id_ed25519: "), "{error}");
        }
        let state = record::to_json(&ready(&name("api")));
        let config = ("active/api/config.json", &b"{}"[..]);
        let error = refused(&[("active/api/state.json", &state), config, config]);
        assert_eq!(error, "active/api/config.json appears twice");
    }

    #[test]
    fn paths_and_links_in_a_backup_are_never_trusted() {
        let state = record::to_json(&ready(&name("api")));
        let sound = forged(&[("active/api/state.json", &state)], tar::EntryType::Regular);
        assert_eq!(BackupBundle::from_bytes(&sound).unwrap().contents.vms.len(), 1);
        for path in [
            "../state.json",
            "active/../state.json",
            "active/../../api/state.json",
            "/active/api/state.json",
            "active/web/state.json",
            "archive/api/state.json",
            "archive/web-20250115T103000Z-3f9c/state.json",
            "active/api/authorized_keys",
            "keys/../id_ed25519",
            "state.json",
        ] {
            let error =
                BackupBundle::from_bytes(&forged(&[(path, &state)], tar::EntryType::Regular)).unwrap_err();
            assert!(
                error.contains("not a valid folder") || error.contains("does not belong"),
                "{path}: {error}"
            );
        }
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory] {
            let error =
                BackupBundle::from_bytes(&forged(&[("active/api/state.json", b"")], kind)).unwrap_err();
            assert!(error.contains("not a regular file"), "{kind:?}: {error}");
        }
    }
}
