//! A backup: a tar file, compressed by zstd, that ends with the SHA-256 of all that comes before.
//!
//! The hash lies in a skippable frame (RFC 8878, 3.1.2), which other programs pass over: `tar --zstd -xf`
//! unpacks a backup. In the tar file `manifest.json` comes first and has the SHA-256 of every file.
//! No path of it is ever written to: a file's path only says what it is. A backup may come from anyone: what it
//! unpacks to is bounded, and nothing may stand behind its end.

use std::collections::BTreeMap;
use std::io::Cursor;

use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record;
use goloo_core::secret::PrivateKey;
use goloo_core::store::{Archived, SNAPSHOT_FILES, Snapshot};
use goloo_core::time::Timestamp;
use goloo_os::read;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Gone, Vm, Whole};

const SCHEMA: u32 = 1;
const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
/// goloo's own client key, without which it can't log in to the VMs.
const CLIENT_KEY: &str = "keys/id_ed25519";
/// Magic number of a skippable frame and the length of what is in it, both little-endian.
const TRAILER: [u8; 8] = [0x5E, 0x2A, 0x4D, 0x18, 32, 0, 0, 0];
const TRAILER_LENGTH: usize = TRAILER.len() + 32;
/// The largest backup file, in bytes.
pub const FILE_MAX: u64 = 256 << 20;
/// The most that a backup unpacks to, in bytes.
const UNPACKED_MAX: u64 = 1 << 30;
/// How many bytes one compressed byte may become, beyond [`UNPACKED_FREE`].
const RATIO_MAX: u64 = 1000;
const UNPACKED_FREE: u64 = 64 << 20;

/// The most bytes that so many compressed bytes may unpack to.
fn unpacked_limit(compressed: usize) -> u64 {
    (compressed as u64).saturating_mul(RATIO_MAX).saturating_add(UNPACKED_FREE).min(UNPACKED_MAX)
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// When it was made.
    pub created_at: Timestamp,
    /// The store that it was made of, as a person would name it.
    pub from: String,
    /// The records.
    pub whole: Whole,
    /// goloo's private client key, if there was one.
    pub client_key: Option<ClientKey>,
}

/// goloo's private client key, as a backup holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// In OpenSSH's form.
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

impl Bundle {
    /// The backup's bytes.
    ///
    /// # Errors
    /// When it is larger than [`Self::from_bytes`] takes.
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
        let mut tar = tar::Builder::new(Vec::new());
        let all = std::iter::once((MANIFEST.to_owned(), manifest)).chain(files);
        for (path, bytes) in all {
            append(&mut tar, &path, &bytes, self.created_at).expect("memory takes any file");
        }
        let tar = tar.into_inner().expect("memory takes the end");
        let mut whole = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        if tar.len() as u64 > unpacked_limit(whole.len()) || whole.len() as u64 > FILE_MAX {
            return Err(format!("{} MiB are too much for one backup", tar.len() >> 20));
        }
        let hash = Sha256::digest(&whole);
        whole.extend(TRAILER);
        whole.extend(hash);
        Ok(whole)
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        for vm in &self.whole.vms {
            let folder = format!("active/{}", vm.record.name);
            add(&mut files, &folder, record::to_json(&vm.record), &vm.snapshot);
        }
        for gone in &self.whole.archive {
            let folder = format!("archive/{}", gone.archived.id);
            add(&mut files, &folder, record::to_json(&gone.archived.record), &gone.snapshot);
        }
        let key = |key: &ClientKey| (CLIENT_KEY.to_owned(), key.private.expose().as_bytes().to_vec());
        files.extend(self.client_key.iter().map(key));
        files
    }

    /// Reads a backup, all of it checked; the error says what is wrong, and where.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (compressed, trailer) = bytes
            .len()
            .checked_sub(TRAILER_LENGTH)
            .map(|at| bytes.split_at(at))
            .ok_or("it is too short for a backup")?;
        if trailer[..TRAILER.len()] != TRAILER {
            return Err(format!("it isn't a whole backup: its end, at byte {}, is missing", bytes.len()));
        }
        let intact = trailer[TRAILER.len()..] == *Sha256::digest(compressed);
        let files = unpack(compressed);
        if !intact {
            let place = files.and_then(|files| check(&files).map(drop)).err();
            let place = place.unwrap_or_else(|| "in its checksum, or where nothing is kept".to_owned());
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

/// All files, in their order.
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
            return Err(format!("\"{path}\" is no plain file"));
        }
        end = entry.raw_file_position().saturating_add(entry.size().next_multiple_of(512));
        // The manifest alone names all files.
        let max = if path == MANIFEST { UNPACKED_MAX } else { read::FILE_MAX };
        let content = read::stream(entry, max).map_err(|error| format!("\"{path}\": {error}"))?;
        files.push((path, content));
    }
    let rest = usize::try_from(end).ok().and_then(|end| tar.get(end..)).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        return Err("there is something behind its last file".to_owned());
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
    let tar = unpacked.map_err(|error| format!("it can't be unpacked from byte {at} on: {error}"))?;
    if at != compressed.len() as u64 {
        return Err(format!("there is something behind its end, from byte {at} on"));
    }
    Ok(tar)
}

/// That the files are those of the manifest, each with its hash.
fn check(files: &Files) -> Result<Manifest, String> {
    let (first, bytes) = files.first().ok_or("it holds nothing")?;
    if first != MANIFEST {
        return Err(format!("it begins with \"{first}\", not with {MANIFEST}"));
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| format!("in {MANIFEST}: {error}"))?;
    if manifest.schema != SCHEMA {
        return Err(format!("its format is {}; this goloo reads format {SCHEMA}", manifest.schema));
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

/// Puts each file where its path says that it belongs.
fn sort(manifest: Manifest, files: Files) -> Result<Bundle, String> {
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
                    return Err(format!("{path} is there twice"));
                }
            }
            _ => return Err(format!("\"{path}\" doesn't belong into a backup")),
        }
    }
    let mut whole = Whole::default();
    for folder in order {
        let mut files = folders.remove(&folder).ok_or_else(|| format!("{folder} is there twice"))?;
        let state = files.remove(STATE).unwrap_or_default();
        let record = record::from_json(&state).map_err(|error| format!("in {folder}/{STATE}: {error}"))?;
        let belongs = |name: &str| record.name.as_str() == name;
        match folder.split_once('/') {
            Some(("active", name)) if VmName::parse(name).is_ok() && belongs(name) => {
                whole.vms.push(Vm { record, snapshot: Snapshot { files } });
            }
            Some(("archive", id)) if ArchiveId::parse(id).is_ok_and(|id| belongs(id.name())) => {
                let id = ArchiveId::parse(id).map_err(|error| error.to_string())?;
                let archived = Archived { deleted_at: id.deleted_at(), id, record };
                whole.archive.push(Gone { archived, snapshot: Snapshot { files } });
            }
            _ => return Err(format!("\"{folder}\" is no place for the record of \"{}\"", record.name)),
        }
    }
    match folders.into_keys().next() {
        Some(folder) => Err(format!("{folder} has no {STATE}")),
        None => Ok(Bundle { created_at: manifest.created_at, from: manifest.from, whole, client_key }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_core::cloud_init::HostKey;
    use goloo_testkit::samples::{in_aws, name, ready, snapshot, time};

    use std::io::Read as _;

    use super::*;

    fn bundle() -> Bundle {
        let id = ArchiveId::parse("gone-20250115T103000Z-3f9c").unwrap();
        let archived = Archived { deleted_at: id.deleted_at(), id, record: ready(&name("gone")) };
        let vm = |name: &str| Vm { record: in_aws(&self::name(name)), snapshot: snapshot() };
        Bundle {
            created_at: time("2025-02-01T00:00:00Z"),
            from: "/home/ann/.local/share/goloo".to_owned(),
            whole: Whole {
                vms: vec![vm("api"), vm(&"w".repeat(63))],
                archive: vec![Gone { archived, snapshot: snapshot() }],
            },
            client_key: Some(client_key()),
        }
    }

    fn client_key() -> ClientKey {
        ClientKey::parse(HostKey::generate().private_openssh.expose().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_byte_for_byte() {
        let bundle = bundle();
        assert_eq!(Bundle::from_bytes(&bundle.to_bytes().unwrap()).unwrap(), bundle);
        let empty = Bundle { whole: Whole::default(), client_key: None, ..bundle };
        assert_eq!(Bundle::from_bytes(&empty.to_bytes().unwrap()).unwrap(), empty);
    }

    /// With checksums that are right, as somebody with bad intentions makes them: of the whole and of each file.
    #[test]
    fn mutation_of_backups() {
        let bytes = bundle().to_bytes().unwrap();
        let compressed = bytes[..bytes.len() - TRAILER_LENGTH].to_vec();
        goloo_testkit::mutate::run(std::slice::from_ref(&compressed), |input| {
            drop(Bundle::from_bytes(&sealed(input.to_vec())))
        });
        let tar = decompress(&compressed).unwrap();
        goloo_testkit::mutate::run(&[tar], |input| {
            drop(Bundle::from_bytes(&sealed(compress_to_vec(input, CompressionLevel::Fastest))));
        });
        let state = record::to_json(&in_aws(&name("api")));
        goloo_testkit::mutate::run(&[state, client_key().private.expose().as_bytes().to_vec()], |input| {
            let files = [("active/api/state.json", input), (CLIENT_KEY, input)];
            for file in files {
                drop(Bundle::from_bytes(&forged(&[file], tar::EntryType::Regular)));
            }
        });
    }

    #[test]
    fn a_backup_cut_short_anywhere_is_refused() {
        let bytes = bundle().to_bytes().unwrap();
        for length in 0..bytes.len() {
            let error = Bundle::from_bytes(&bytes[..length]).unwrap_err();
            assert!(error.contains("short") || error.contains("end"), "{length}: {error}");
        }
    }

    #[test]
    fn a_backup_altered_at_any_byte_is_refused_with_the_place() {
        let bytes = bundle().to_bytes().unwrap();
        let mut places = std::collections::BTreeSet::new();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            let error = Bundle::from_bytes(&altered).unwrap_err();
            assert!(error.contains("altered: ") || error.contains("its end"), "{at}: {error}");
            places.insert(error);
        }
        assert!(places.len() > 10, "{places:?}");
        assert!(places.iter().any(|place| place.contains("active/api/")), "{places:?}");
    }

    /// A backup as somebody with bad intentions makes it: all hashes are right.
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
        let mut whole = compress_to_vec(tar.into_inner().unwrap().as_slice(), CompressionLevel::Fastest);
        let hash = Sha256::digest(&whole);
        whole.extend(TRAILER);
        whole.extend(hash);
        whole
    }

    /// A tar file as a backup, whatever is in it.
    fn sealed(mut compressed: Vec<u8>) -> Vec<u8> {
        let hash = Sha256::digest(&compressed);
        compressed.extend(TRAILER);
        compressed.extend(hash);
        compressed
    }

    #[test]
    fn a_backup_that_unpacks_to_far_more_than_it_is_ends_at_the_limit() {
        let bomb = compress_to_vec(std::io::repeat(0).take(256 << 20), CompressionLevel::Fastest);
        assert!(bomb.len() < 100 << 10, "{}", bomb.len());
        let error = Bundle::from_bytes(&sealed(bomb)).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn a_file_of_a_backup_is_no_larger_than_one_of_a_store() {
        let large = vec![b' '; read::FILE_MAX as usize + 1];
        let error =
            Bundle::from_bytes(&forged(&[("active/api/config.json", &large)], tar::EntryType::Regular));
        assert_eq!(error.unwrap_err(), "\"active/api/config.json\": it is larger than 1 MiB");
    }

    #[test]
    fn nothing_stands_behind_the_end_of_a_backup() {
        let bundle = bundle();
        let bytes = bundle.to_bytes().unwrap();
        let compressed = &bytes[..bytes.len() - TRAILER_LENGTH];
        let second = compress_to_vec(&b"more"[..], CompressionLevel::Fastest);
        for behind in [&second[..], b"x", &bytes[compressed.len()..]] {
            let error = Bundle::from_bytes(&sealed([compressed, behind].concat())).unwrap_err();
            assert!(error.contains("behind its end"), "{error}");
        }
        let mut tar = decompress(compressed).unwrap();
        tar.extend([0; 512]);
        let padded = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        assert_eq!(Bundle::from_bytes(&sealed(padded)).unwrap().whole, bundle.whole);
        tar.extend(b"hidden");
        let hidden = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        let error = Bundle::from_bytes(&sealed(hidden)).unwrap_err();
        assert_eq!(error, "there is something behind its last file");
    }

    #[test]
    fn a_client_key_that_is_none_and_a_file_that_is_there_twice_are_refused() {
        let refused = |files: &[(&str, &[u8])]| {
            Bundle::from_bytes(&forged(files, tar::EntryType::Regular)).unwrap_err()
        };
        let key = client_key();
        let private = key.private.expose().as_bytes();
        let restored = Bundle::from_bytes(&forged(&[(CLIENT_KEY, private)], tar::EntryType::Regular));
        assert_eq!(restored.unwrap().client_key, Some(key.clone()));
        assert!(key.fingerprint.starts_with("SHA256:"));
        for bad in [&b"not a key"[..], &private[..private.len() / 2], b"\xff", b""] {
            let error = refused(&[(CLIENT_KEY, bad)]);
            assert!(error.starts_with("in keys/id_ed25519: "), "{error}");
        }
        let state = record::to_json(&ready(&name("api")));
        let config = ("active/api/config.json", &b"{}"[..]);
        let error = refused(&[("active/api/state.json", &state), config, config]);
        assert_eq!(error, "active/api/config.json is there twice");
    }

    #[test]
    fn paths_and_links_in_a_backup_are_never_trusted() {
        let state = record::to_json(&ready(&name("api")));
        let sound = forged(&[("active/api/state.json", &state)], tar::EntryType::Regular);
        assert_eq!(Bundle::from_bytes(&sound).unwrap().whole.vms.len(), 1);
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
            let error = Bundle::from_bytes(&forged(&[(path, &state)], tar::EntryType::Regular)).unwrap_err();
            assert!(error.contains("no place") || error.contains("doesn't belong"), "{path}: {error}");
        }
        for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory] {
            let error = Bundle::from_bytes(&forged(&[("active/api/state.json", b"")], kind)).unwrap_err();
            assert!(error.contains("no plain file"), "{kind:?}: {error}");
        }
    }
}
