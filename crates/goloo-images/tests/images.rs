//! The image cache against a misbehaving server: a broken image is never used.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use goloo_images::download::DownloadTimeouts;
use goloo_images::{Arch, Cache, ImageError, ImageOrigin, Unwatched, Watch, alias};
use goloo_model::events::Event;
use goloo_model::spec::ImageRef;
use goloo_testkit::image_server::{Fault, ImageServer};
use sha2::{Digest, Sha256, Sha512};

/// A server that mirrors one alias and serves one other file, and an empty cache.
struct World {
    folder: tempfile::TempDir,
    server: ImageServer,
    cache: Cache,
    image: Vec<u8>,
    /// The paths of the published image and of its list on the server.
    path: String,
    list: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A qcow2 image of a few hundred KiB.
fn qcow2(folder: &Path) -> Vec<u8> {
    let (raw, path) = (folder.join("made.raw"), folder.join("made.qcow2"));
    let content: Vec<u8> =
        (0_u32..200_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&raw, content).unwrap();
    let made =
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&path).status();
    assert!(made.unwrap().success());
    std::fs::read(path).unwrap()
}

const ALIAS: &str = "debian-12";

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ImageServer::start();
        let image = qcow2(folder.path());
        let place = alias::published(ALIAS, Arch::host(), Some("")).unwrap();
        let world = Self {
            cache: Cache::new(folder.path().join("images")).with_mirror(Some(server.url(""))).with_patience(
                DownloadTimeouts {
                    connect: Duration::from_secs(2),
                    piece: Duration::from_millis(500),
                    headway: Duration::from_secs(20),
                    answer: Duration::from_secs(20),
                },
            ),
            server,
            image,
            path: place.url,
            list: place.list_url,
            folder,
        };
        world.publish(&world.image.clone());
        world
    }

    fn publish(&self, image: &[u8]) {
        let file = self.path.rsplit('/').next().unwrap();
        self.server.put(&self.path, image);
        self.server.put(&self.list, format!("{}  {file}\n", hex(&Sha512::digest(image))).as_bytes());
    }

    fn prune(&self) -> Result<goloo_images::Freed, ImageError> {
        self.cache.prune(&self.folder.path().join("vms"))
    }

    fn alias(&self) -> Result<goloo_images::CachedImage, ImageError> {
        self.cache.ensure(&ImageRef::Alias(ALIAS.to_owned()), None, &Unwatched)
    }

    /// No image can be used, and no bad file is stored as if it could.
    fn assert_nothing_is_used(&self) {
        assert_eq!(self.cache.list().unwrap(), []);
        let stored = std::fs::read_dir(self.cache.folder().join("store")).unwrap().count();
        assert_eq!(stored, 0);
    }

    fn gets(&self, path: &str) -> Vec<Option<String>> {
        let requests = self.server.requests();
        requests.into_iter().filter(|request| request.path == path).map(|request| request.range).collect()
    }
}

#[derive(Default)]
struct Noting {
    notes: Mutex<Vec<String>>,
    stopped: AtomicBool,
    stop_at_progress: bool,
}

impl Watch for Noting {
    fn event(&self, event: Event) {
        match event {
            Event::Note(text) => self.notes.lock().unwrap().push(text),
            Event::Progress { .. } if self.stop_at_progress => self.stopped.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[test]
fn an_image_is_checked_against_a_signed_list_on_the_publishers_own_host() {
    let world = World::new();
    let place = alias::published("fedora-44", Arch::host(), Some("")).unwrap();
    let fedora = ImageRef::Alias("fedora-44".to_owned());
    let list = |digest: &str| {
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 ({}) = {digest}\n",
            place.file
        );
        world.server.put(&place.list_url, text.as_bytes());
    };
    world.server.put(&place.url, &world.image);
    list(&"0".repeat(64));
    let error = world.cache.ensure(&fedora, None, &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error:?}");
    world.assert_nothing_is_used();
    list(&sha256(&world.image));
    let image = world.cache.ensure(&fedora, None, &Unwatched).unwrap();
    assert_eq!(std::fs::read(image.path).unwrap(), world.image);
}

#[test]
fn a_published_image_is_downloaded_once() {
    let world = World::new();
    let image = world.alias().unwrap();
    assert_eq!(std::fs::read(&image.path).unwrap(), world.image);
    assert_eq!(image.entry.origin, ImageOrigin::Published);
    assert_eq!(image.entry.sha256, sha256(&world.image));
    let asked = world.server.requests().len();
    world.alias().unwrap();
    assert_eq!(world.server.requests().len(), asked, "nobody is asked for what is there");
}

#[test]
fn a_pull_downloads_only_a_newer_image() {
    let world = World::new();
    world.alias().unwrap();
    world.cache.pull(ALIAS, &Unwatched).unwrap();
    assert_eq!(world.gets(&world.path).len(), 1, "the list says that nothing is new");
    let mut newer = world.image.clone();
    newer.extend_from_slice(&[0; 512]);
    world.publish(&newer);
    let image = world.cache.pull(ALIAS, &Unwatched).unwrap();
    assert_eq!(image.entry.sha256, sha256(&newer));
}

#[test]
fn the_cached_image_is_used_with_a_note_when_offline() {
    let world = World::new();
    world.alias().unwrap();
    world.server.fault(&world.list, Some(Fault::Status(503)));
    let watch = Noting::default();
    world.cache.pull(ALIAS, &watch).unwrap();
    assert!(watch.notes.lock().unwrap()[0].contains("from the cache"));
}

#[test]
fn a_corrupt_image_is_never_used() {
    let world = World::new();
    world.server.fault(&world.path, Some(Fault::Corrupt(100_000)));
    let error = world.alias().unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    world.assert_nothing_is_used();
    assert_eq!(std::fs::read_dir(world.cache.folder().join("parts")).unwrap().count(), 0, "nothing is kept");
    world.server.fault(&world.path, None);
    assert_eq!(std::fs::read(world.alias().unwrap().path).unwrap(), world.image);
}

#[test]
fn an_interrupted_download_continues_where_it_ended() {
    let world = World::new();
    world.server.fault(&world.path, Some(Fault::CutAfter(500_000)));
    let image = world.alias().unwrap();
    assert_eq!(std::fs::read(image.path).unwrap(), world.image);
    let ranges = world.gets(&world.path);
    assert_eq!(ranges[..2], [None, Some("bytes=500000-".to_owned())]);
}

#[test]
fn a_stopped_download_continues_in_the_next_run() {
    let world = World::new();
    world.server.fault(&world.path, Some(Fault::HangAfter(300_000)));
    let watch = Noting { stop_at_progress: true, ..Noting::default() };
    let error = world.cache.ensure(&ImageRef::Alias(ALIAS.to_owned()), None, &watch).unwrap_err();
    assert!(matches!(error, ImageError::Stopped), "{error}");
    world.assert_nothing_is_used();
    world.server.fault(&world.path, None);
    assert_eq!(std::fs::read(world.alias().unwrap().path).unwrap(), world.image);
    let ranges = world.gets(&world.path);
    assert!(ranges.last().unwrap().is_some(), "{ranges:?}");
}

#[test]
fn a_download_restarts_if_the_server_does_not_support_ranges() {
    let world = World::new();
    world.server.ranges(&world.path, false);
    world.server.fault(&world.path, Some(Fault::CutAfter(300_000)));
    let error = world.alias().unwrap_err();
    assert!(matches!(error, ImageError::NotToBeHad { .. }), "{error}");
    world.assert_nothing_is_used();
    world.server.fault(&world.path, None);
    assert_eq!(std::fs::read(world.alias().unwrap().path).unwrap(), world.image);
}

#[test]
fn parts_of_two_versions_of_an_image_are_never_combined() {
    let world = World::new();
    let url = world.server.url("/own.img");
    world.server.put("/own.img", &world.image);
    world.server.fault("/own.img", Some(Fault::HangAfter(300_000)));
    let watch = Noting { stop_at_progress: true, ..Noting::default() };
    world.cache.ensure(&ImageRef::Url(url.clone()), None, &watch).unwrap_err();
    let mut other = world.image.clone();
    // In the part that is already downloaded, at an offset the format doesn't use.
    other[5000] ^= 1;
    world.server.put("/own.img", &other);
    let image = world.cache.ensure(&ImageRef::Url(url), None, &Unwatched).unwrap();
    assert_eq!(std::fs::read(image.path).unwrap(), other);
}

#[test]
fn a_file_shorter_than_announced_is_never_used() {
    let world = World::new();
    world.server.put("/own.img", &world.image);
    world.server.fault("/own.img", Some(Fault::TooLong(1000)));
    let error =
        world.cache.ensure(&ImageRef::Url(world.server.url("/own.img")), None, &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Download { .. } | ImageError::Status { .. }), "{error}");
    world.assert_nothing_is_used();
}

#[test]
fn a_hanging_server_causes_a_timeout() {
    for fault in [Fault::Hang, Fault::HangAfter(1000)] {
        let world = World::new();
        let begun = Instant::now();
        world.server.fault(&world.path, Some(fault));
        let error = world.alias().unwrap_err();
        assert!(error.hint().debug_text().contains("ImageBuild(\"debian-12\")"), "{:?}", error.hint());
        assert!(begun.elapsed() < Duration::from_secs(20), "{fault:?}: {:?}", begun.elapsed());
        world.assert_nothing_is_used();
    }
}

#[test]
fn an_image_must_match_the_configured_digest() {
    let world = World::new();
    world.server.put("/own.img", &world.image);
    let image = ImageRef::Url(world.server.url("/own.img"));
    let error = world.cache.ensure(&image, Some(&"0".repeat(64)), &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    world.assert_nothing_is_used();
    world.cache.ensure(&image, Some(&sha256(&world.image)), &Unwatched).unwrap();
    let error = world.cache.ensure(&image, Some(&"0".repeat(64)), &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "what is cached isn't exempt: {error}");
    let error = world.cache.ensure(&image, Some("abc"), &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Unusable { .. }), "{error}");
}

#[test]
fn an_image_missing_from_the_checksum_list_is_never_used() {
    let world = World::new();
    world.server.put(&world.list, b"nothing\n");
    let error = world.alias().unwrap_err();
    assert!(matches!(error, ImageError::NotToBeHad { .. }), "{error}");
    world.assert_nothing_is_used();
}

#[test]
fn an_image_file_is_imported_once_and_again_when_it_changes() {
    let world = World::new();
    let path = world.folder.path().join("own.qcow2");
    std::fs::write(&path, &world.image).unwrap();
    let image = ImageRef::Path(path.clone());
    let first = world.cache.ensure(&image, None, &Unwatched).unwrap();
    assert_eq!(std::fs::read(&first.path).unwrap(), world.image);
    let written = first.path.metadata().unwrap().modified().unwrap();
    let second = world.cache.ensure(&image, None, &Unwatched).unwrap();
    assert_eq!(second.path.metadata().unwrap().modified().unwrap(), written);
    let mut changed = world.image.clone();
    changed.extend_from_slice(&[0; 512]);
    std::fs::write(&path, &changed).unwrap();
    let third = world.cache.ensure(&image, None, &Unwatched).unwrap();
    assert_eq!(third.entry.sha256, sha256(&changed));
    assert_eq!(std::fs::read(&first.path).unwrap(), world.image, "a base image is never written again");
    let error = world.cache.ensure(&image, Some(&"0".repeat(64)), &Unwatched).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
}

#[test]
fn a_truncated_file_in_the_cache_is_never_used() {
    let world = World::new();
    let path = world.alias().unwrap().path;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &world.image[..1000]).unwrap();
    assert_eq!(std::fs::read(world.alias().unwrap().path).unwrap(), world.image);
}

fn refused(name: &str, content: &[u8]) -> String {
    let world = World::new();
    let path = world.folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let error = world.cache.ensure(&ImageRef::Path(path), None, &Unwatched).unwrap_err();
    world.assert_nothing_is_used();
    error.to_string()
}

#[test]
fn a_file_that_is_not_a_disk_image_is_refused() {
    assert!(
        refused("page.img", b"<html>not found</html>")
            .contains("neither a qcow2 header nor a partition table")
    );
    assert!(refused("packed.img", b"\xfd7zXZ\0and so on").contains("archived with xz"));
}

#[test]
fn an_image_that_references_other_files_is_refused() {
    let world = World::new();
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, [1; 4096]).unwrap();
    let make = |name: &str, options: &[&str]| -> PathBuf {
        let path = world.folder.path().join(name);
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(options)
            .arg(&path)
            .arg("1M")
            .status();
        assert!(made.unwrap().success());
        path
    };
    let backing = make("backing.qcow2", &["-F", "raw", "-b", secret.to_str().unwrap()]);
    let data_file = format!("data_file={},data_file_raw=on", world.folder.path().join("data").display());
    let data = make("data.qcow2", &["-o", &data_file]);
    for path in [backing, data] {
        let error = world.cache.ensure(&ImageRef::Path(path), None, &Unwatched).unwrap_err();
        assert!(error.to_string().contains("it has a backing file"), "{error}");
    }
    world.assert_nothing_is_used();
}

#[test]
fn an_unknown_alias_is_refused_with_the_known_aliases() {
    let world = World::new();
    let error = world.cache.ensure(&ImageRef::Alias("plan9".to_owned()), None, &Unwatched).unwrap_err();
    assert!(error.hint().debug_text().contains("ubuntu-24.04"), "{:?}", error.hint());
}

#[test]
fn concurrent_requests_download_an_image_once() {
    let world = World::new();
    world.server.fault(&world.path, Some(Fault::Slow(100_000)));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(std::fs::read(world.alias().unwrap().path).unwrap(), world.image));
        }
    });
    assert_eq!(world.gets(&world.path).len(), 1);
}

#[test]
fn prune_is_refused_while_an_image_is_in_use() {
    let world = World::new();
    let image = world.alias().unwrap();
    let error = world.prune().unwrap_err();
    assert!(matches!(error, ImageError::Busy { .. }), "{error}");
    drop(image);
    assert_eq!(world.prune().unwrap().files, 1);
}

#[test]
fn an_image_used_from_another_file_system_is_kept() {
    let world = World::new();
    let machine = world.folder.path().join("vms/ID");
    std::fs::create_dir_all(&machine).unwrap();
    let image = world.alias().unwrap();
    world.cache.hold(&image, &machine).unwrap();
    drop(image);
    assert_eq!(world.prune().unwrap().files, 0);
    // Simulates an unmounted disk: the folder that contains the machine is missing too.
    std::fs::rename(world.folder.path().join("vms"), world.folder.path().join("away")).unwrap();
    let freed = world.prune().unwrap();
    assert_eq!((freed.files, freed.out_of_sight.len()), (0, 1));
    assert_eq!(freed.out_of_sight[0].machine, machine);
    std::fs::remove_file(&freed.out_of_sight[0].note).unwrap();
    assert_eq!(world.prune().unwrap().files, 1);
}

/// One cache serves all state folders of a user; they may be moved, and others may take their place.
#[test]
fn images_of_other_or_moved_state_folders_are_kept_while_machines_exist() {
    let world = World::new();
    let at = |name: &str| world.folder.path().join(name);
    let state = |name: &str| {
        std::fs::create_dir_all(at(name).join("vms")).unwrap();
        std::fs::write(at(name).join("state-id"), goloo_model::name::StateId::generate().to_string())
            .unwrap();
    };
    state("one");
    state("other");
    let machine = at("one/vms/ID");
    std::fs::create_dir(&machine).unwrap();
    let image = world.alias().unwrap();
    world.cache.hold(&image, &machine).unwrap();
    drop(image);
    let prune = |own: &str| {
        let freed = world.cache.prune(&at(own).join("vms")).unwrap();
        (freed.files, freed.out_of_sight.len())
    };
    assert_eq!(prune("one"), (0, 0));
    assert_eq!(prune("other"), (0, 0));
    std::fs::rename(at("one"), at("moved")).unwrap();
    assert_eq!(prune("other"), (0, 1));
    assert_eq!(prune("moved"), (0, 0));
    // A new state folder in the old place is a different one and doesn't have that machine.
    state("one");
    for own in ["one", "other"] {
        assert_eq!(prune(own), (0, 1), "{own}");
    }
    assert!(world.cache.list().unwrap()[0].in_use);
    std::fs::remove_dir(at("moved/vms/ID")).unwrap();
    assert_eq!(prune("other"), (0, 1), "where it was moved to isn't known here");
    assert_eq!(prune("moved"), (1, 0));
}

/// A note from an earlier version names no state folder, so it is unknown whether its machine still exists.
#[test]
fn an_image_referenced_without_a_state_folder_is_kept() {
    let world = World::new();
    let image = world.alias().unwrap();
    let note = world.cache.folder().join("roots/ID");
    let machine = world.folder.path().join("vms/ID");
    std::fs::create_dir(world.folder.path().join("vms")).unwrap();
    let text = format!("{{\"image\": {:?}, \"machine\": {machine:?}}}", image.entry.sha256);
    std::fs::write(&note, text).unwrap();
    drop(image);
    let freed = world.prune().unwrap();
    assert_eq!((freed.files, freed.out_of_sight.len()), (0, 1));
}

#[test]
fn only_safe_redirects_are_followed_up_to_a_limit() {
    let world = World::new();
    let pull = |path: &str| {
        let url = ImageRef::Url(world.server.url(path));
        world.cache.ensure(&url, None, &Unwatched).map(|image| image.entry.sha256)
    };
    world.server.put("/real.qcow2", &world.image);
    world.server.redirect("/moved.qcow2", "/again.qcow2");
    world.server.redirect("/again.qcow2", &world.server.url("/real.qcow2"));
    assert_eq!(pull("/moved.qcow2").unwrap(), sha256(&world.image));
    // This address is unassigned: a request to it would fail differently.
    for to in ["http://192.0.2.1/x.qcow2", "//192.0.2.1/x.qcow2", "ftp://127.0.0.1/x", "file:///etc/passwd"] {
        world.server.redirect("/away.qcow2", to);
        let refused = pull("/away.qcow2").unwrap_err();
        assert!(refused.to_string().contains("which is insecure"), "{to}: {refused}");
    }
    world.server.redirect("/round.qcow2", "/round.qcow2");
    let before = world.server.requests().len();
    let refused = pull("/round.qcow2").unwrap_err();
    assert!(refused.to_string().ends_with("more than 5 times"), "{refused}");
    assert!(world.server.requests().len() - before <= 6, "a refused redirect isn't tried again");
}

#[test]
fn a_checksum_list_may_redirect_and_is_read_up_to_a_limit() {
    let world = World::new();
    let file = world.path.rsplit('/').next().unwrap().to_owned();
    let list = format!("{}  {file}\n", hex(&Sha512::digest(&world.image)));
    // The digest lies beyond the limit: it isn't found, and the rest isn't buffered in memory.
    world.server.put(&world.list, ("#".repeat(79) + "\n").repeat(60_000).as_bytes());
    world.alias().unwrap_err();
    world.server.put("/list", list.as_bytes());
    world.server.redirect(&world.list, "/list");
    assert_eq!(world.alias().unwrap().entry.sha256, sha256(&world.image));
}

#[test]
fn a_download_without_sufficient_progress_times_out() {
    let mut world = World::new();
    let limit = Duration::from_secs(1);
    let patience = DownloadTimeouts { connect: limit, piece: limit, headway: limit, answer: limit };
    world.cache = Cache::new(world.folder.path().join("slow"))
        .with_mirror(Some(world.server.url("")))
        .with_patience(patience);
    let begun = Instant::now();
    for path in [&world.list, &world.path] {
        world.server.fault(path, Some(Fault::Slow(1)));
        let given_up = world.alias().unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20), "{given_up}");
        world.server.fault(path, None);
    }
    world.alias().unwrap();
}

#[test]
fn an_image_larger_than_the_limit_is_refused_before_downloading() {
    let world = World::new();
    world.server.put("/endless.qcow2", &world.image);
    world.server.fault("/endless.qcow2", Some(Fault::TooLong(65 << 30)));
    let refused =
        world.cache.ensure(&ImageRef::Url(world.server.url("/endless.qcow2")), None, &Unwatched).unwrap_err();
    assert!(refused.to_string().contains("larger than 64 GiB"), "{refused}");
}

#[test]
fn repeated_disconnects_and_oversized_downloads_are_given_up() {
    let limit = Duration::from_secs(5);
    let patience = DownloadTimeouts { connect: limit, piece: limit, headway: limit, answer: limit };
    for fault in [Fault::Endless(2 << 20), Fault::Turns(2 << 20)] {
        let world = World::new();
        world.server.put("/large", &vec![7; 4 << 20]);
        world.server.fault("/large", Some(fault));
        let cache = Cache::new(world.folder.path().join("other")).with_patience(patience);
        let image = ImageRef::Url(world.server.url("/large"));
        let error = cache.ensure(&image, None, &Unwatched).unwrap_err().to_string();
        let expected = match fault {
            Fault::Endless(_) => "larger than 64 GiB",
            _ => "disconnected",
        };
        assert!(error.contains(expected), "{error}");
        assert!(world.gets("/large").len() < 12, "{fault:?}");
    }
}

#[test]
fn endless_http_trailers_cause_a_timeout() {
    let world = World::new();
    world.server.put("/large", &vec![7; 4 << 20]);
    world.server.fault("/large", Some(Fault::Trailers));
    let limit = Duration::from_secs(30);
    let patience =
        DownloadTimeouts { connect: limit, piece: limit, headway: limit, answer: Duration::from_secs(1) };
    let cache = Cache::new(world.folder.path().join("other")).with_patience(patience);
    let image = ImageRef::Url(world.server.url("/large"));
    let error = cache.ensure(&image, None, &Unwatched).unwrap_err().to_string();
    assert!(error.contains("timeout"), "{error}");
}
