//! Real other users of the same computer: what they can change, lock or read. These tests need root.

use crate::common;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{World, wait_until};

/// Debian's account `nobody`, which exists on every machine.
const NOBODY: u32 = 65_534;

/// Whether the tests can act as other users. If not, they are skipped with a message.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can act as other users");
    }
    is_root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a program as `nobody`, without any of root's rights.
fn as_nobody(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", program]).args(arguments);
    command
}

/// Holds the lock of a file or folder as another user, until it is dropped.
struct Blocker(Child);

impl Blocker {
    fn lock(path: &Path) -> Self {
        let path = path.display().to_string();
        let ready = format!("exec 9<'{path}'; flock 9; echo locked; read line");
        let mut command = as_nobody("bash", &["-c", &ready]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert_eq!(&line, b"locked");
        Self(child)
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with all files and folders below it.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}

/// A world whose folders, starting at the root, everybody can enter.
fn open_world() -> World {
    let world = World::new();
    set_mode(world.path(), 0o755);
    world
}

#[test]
fn all_files_of_goloo_are_private_under_any_umask() {
    for umask in ["000", "022", "777"] {
        let world = World::new();
        fs::remove_dir_all(world.path().join("config")).unwrap();
        let stack = world.path().join("work/stacks/hello").display().to_string();
        let exported = world.path().join("work/exported");
        let commands = [
            "settings set localProvider qemu".to_owned(),
            format!("config import lib {stack}"),
            "create hello --no-wait".to_owned(),
            "snapshot hello".to_owned(),
            "stop hello --force".to_owned(),
            "create hello --as two --no-wait".to_owned(),
            "delete hello --yes".to_owned(),
            format!("config export lib {}", exported.display()),
            "init base ./stacks/mine".to_owned(),
            format!("state backup {}", world.path().join("work/backup").display()),
        ];
        for line in commands {
            let mut command = Command::new("bash");
            world.settle(&mut command);
            let script = format!("umask {umask}; exec {} {line}", common::goloo().display());
            let ran = common::Ran(command.args(["-c", &script]).output().unwrap());
            // Under a umask that removes all permissions, only root can work.
            assert!(ran.code() == 0 || line.starts_with("snapshot"), "{umask}: {line}: {ran:?}");
        }
        let kept = [world.state(), world.path().join("config"), world.path().join("cache")];
        for path in kept.iter().flat_map(|folder| all_below(folder)) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_symlink() {
                continue;
            }
            let (mode, path) = (metadata.mode() & 0o777, path.display());
            assert_eq!(mode & 0o077, 0, "umask {umask}: {path} has mode {mode:o}");
            let wanted = if metadata.is_dir() { 0o700 } else { 0o400 };
            assert_eq!(mode & wanted, wanted, "umask {umask}: {path} has mode {mode:o}");
        }
        let backup = fs::metadata(world.path().join("work/backup")).unwrap().mode() & 0o777;
        assert_eq!(backup, 0o600);
        // What a command creates for the user has the permissions of the user's umask.
        let wanted = 0o666 & !u32::from_str_radix(umask, 8).unwrap();
        for file in [exported.join("config.json"), world.path().join("work/stacks/mine/config.json")] {
            let mode = fs::metadata(&file).unwrap().mode() & 0o777;
            assert_eq!(mode, wanted, "umask {umask}: {} has mode {mode:o}", file.display());
        }
    }
}

#[test]
fn files_writable_by_others_are_refused_with_the_repair_command() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let kept = [
        world.path().join("config"),
        world.path().join("config/settings.json"),
        world.state(),
        world.state().join("keys"),
        world.state().join("keys/id_ed25519"),
        world.state().join("active"),
        world.state().join("vms"),
        world.state().join("keys/known_hosts.d"),
        world.path().join("cache"),
        world.path().join("cache/images"),
        world.path().join("cache/images/names"),
        world.path().join("cache/images/store"),
    ];
    for path in kept {
        let before = fs::metadata(&path).unwrap().mode() & 0o7777;
        set_mode(&path, before | 0o002);
        let refused = world.run(&["list", "--json"]).expect(4);
        let error = serde_json::from_str::<serde_json::Value>(&refused.stdout()).unwrap()["error"].clone();
        assert_eq!(error["code"], "exposed", "{refused:?}");
        assert!(error["message"].as_str().unwrap().contains(path.to_str().unwrap()), "{refused:?}");
        let hint = error["hint"].as_str().unwrap();
        assert!(Command::new("sh").args(["-c", hint]).status().unwrap().success(), "{hint}");
        world.run(&["list"]).expect(0);
        set_mode(&path, before);
        if !is_root() {
            continue;
        }
        chown(&path, Some(NOBODY), None).unwrap();
        let refused = world.run(&["list"]).expect(4).stderr();
        assert!(refused.contains("nobody"), "{refused}");
        chown(&path, Some(0), None).unwrap();
        world.run(&["list"]).expect(0);
    }
    let library = world.path().join("config/stacks/web");
    fs::create_dir_all(&library).unwrap();
    set_mode(library.parent().unwrap(), 0o777);
    let refused = world.run(&["list"]).expect(4);
    assert!(refused.stderr().contains("config/stacks"), "{refused:?}");
    set_mode(library.parent().unwrap(), 0o700);
    // A stack may be a checkout that a team shares.
    set_mode(&library, 0o777);
    world.run(&["list"]).expect(0);
    set_mode(&world.path().join("config"), 0o777);
    world.run(&["settings", "show"]).expect(4);
}

#[test]
fn completion_ignores_a_state_folder_writable_by_others() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let offered = || {
        let mut command = world.command();
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").args(["--", "goloo", "ssh", "he"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(offered().contains("hello"), "{}", offered());
    set_mode(&world.state(), 0o777);
    assert!(!offered().contains("hello"), "{}", offered());
}

#[test]
fn root_leaves_no_files_in_the_home_of_another_user() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let home = world.path().join("home-of-nobody");
    fs::create_dir_all(home.join(".cache")).unwrap();
    for folder in [&home, &home.join(".cache")] {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for arguments in [
        &["create", "hello", "--no-wait"][..],
        &["list"],
        &["settings", "set", "hosts", "true"],
        &["doctor"],
        &["image", "pull", "./stacks/hello/disk.img"],
    ] {
        let mut command = world.command();
        for own in ["GOLOO_CONFIG_DIR", "XDG_DATA_HOME", "GOLOO_CACHE_DIR"] {
            command.env_remove(own);
        }
        let ran = common::Ran(command.env("HOME", &home).args(arguments).output().unwrap()).expect(4);
        assert!(ran.stderr().contains("hint: run goloo without sudo, as nobody"), "{ran:?}");
    }
    let left: Vec<_> =
        all_below(&home).into_iter().filter(|path| fs::metadata(path).unwrap().uid() == 0).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn locking_a_readable_folder_does_not_block_goloo() {
    if !is_root() {
        return;
    }
    let world = open_world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    fs::create_dir_all(world.path().join("etc")).unwrap();
    fs::write(world.hosts_file(), "127.0.0.1 localhost\n").unwrap();
    // The permissions that older versions, and users with mkdir, gave to them.
    for folder in ["config", "etc", "cache", "data", "data/goloo"] {
        set_mode(&world.path().join(folder), 0o755);
    }
    let folders =
        ["config", "etc", "cache", "cache/images", "data/goloo"].map(|folder| world.path().join(folder));
    set_mode(&world.path().join("cache/images"), 0o755);
    let _blockers: Vec<_> = folders.iter().map(|folder| Blocker::lock(folder)).collect();
    let _file = Blocker::lock(&world.hosts_file());
    let begin = Instant::now();
    world.run(&["settings", "set", "hosts", "true"]).expect(0);
    world.run(&["start", "hello", "--no-wait"]);
    world.run(&["create", "hello", "--as", "two", "--no-wait", "--hosts"]).expect(0);
    assert!(fs::read_to_string(world.hosts_file()).unwrap().contains("two"));
    world.run(&["delete", "two", "hello", "--yes"]).expect(0);
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
}

#[test]
fn a_wait_for_another_goloo_process_is_reported_after_two_seconds() {
    let world = World::new();
    world.run(&["settings", "set", "hosts", "false"]).expect(0);
    let lock = fs::File::options().write(true).open(world.path().join("config/.settings.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = world.command();
    let log = world.path().join("log");
    command.args(["settings", "set", "hosts", "true"]).stderr(fs::File::create(&log).unwrap());
    let mut waiting = command.spawn().unwrap();
    wait_until("the wait is told", || {
        fs::read_to_string(&log).unwrap().contains("waiting for another goloo process, which holds ")
    });
    drop(lock);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn the_root_helper_changes_no_file_but_etc_hosts() {
    let world = World::new();
    fs::create_dir_all(world.path().join("etc")).unwrap();
    fs::write(world.hosts_file(), "127.0.0.1 localhost\n").unwrap();
    let path = world.hosts_file().display().to_string();
    for variable in ["SUDO_UID", "DOAS_USER", "PKEXEC_UID"] {
        let mut command = world.command();
        command.env(variable, "1000").args(["__edit-hosts", &path, "set", "web", "10.0.0.1"]);
        let ran = common::Ran(command.output().unwrap()).expect(70);
        assert!(ran.stderr().contains("only /etc/hosts may be changed"), "{ran:?}");
    }
    assert_eq!(fs::read_to_string(world.hosts_file()).unwrap(), "127.0.0.1 localhost\n");
    if !is_root() {
        return;
    }
    // Nor is another user's file changed if a variable names it.
    chown(world.hosts_file(), Some(NOBODY), None).unwrap();
    let ran = world.run(&["create", "hello", "--no-wait", "--hosts"]);
    assert!(ran.stderr().contains("GOLOO_HOSTS_FILE names a file that another user owns"), "{ran:?}");
    assert_eq!(fs::read_to_string(world.hosts_file()).unwrap(), "127.0.0.1 localhost\n");
}

/// The limit doesn't apply to root.
#[test]
fn a_low_process_limit_is_a_readable_error() {
    if !is_root() {
        return;
    }
    let world = open_world();
    let home = world.path().join("home-of-nobody");
    fs::create_dir_all(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let goloo = |limit: &str, line: &str| {
        let mut command =
            as_nobody("bash", &["-c", &format!("{limit}exec {} {line}", common::goloo().display())]);
        world.settle(&mut command);
        for own in ["GOLOO_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "GOLOO_CACHE_DIR"] {
            command.env_remove(own);
        }
        let ran = common::Ran(command.env("HOME", &home).output().unwrap());
        assert!(ran.0.status.code().is_some(), "{limit}{line}: {ran:?}");
        assert!(!ran.stderr().contains("panicked"), "{limit}{line}: {ran:?}");
        ran
    };
    let create = "create hello --no-wait --provider qemu";
    // Less than the check at startup needs: the error is reported whatever else this user runs.
    for processes in 1..=4 {
        for line in ["list", create] {
            let said = goloo(&format!("ulimit -u {processes}; "), line).expect(1).stderr();
            assert!(said.contains("temporarily unavailable") && said.contains("ulimit -u"), "{said}");
        }
    }
    goloo("", create).expect(0);
    goloo("", "delete hello --yes").expect(0);
}

/// Fake tools that build an empty image, so that a build as root takes no time. `during` is run in the middle of the
/// build.
fn fake_build_tools(world: &World, during: &str) {
    let sh = |script: &str| format!("#!/bin/sh\n{script}\n");
    for name in ["mke2fs", "sfdisk", "mformat", "mmd", "mcopy"] {
        world.program(name, &sh("exit 0"));
    }
    let apt = ". /etc/os-release; echo \"http://deb.example/debian $VERSION_CODENAME main Debian\"";
    world.program("apt-get", &sh(apt));
    let last_but_one = "for last; do root=$before; before=$last; done";
    world.program("mmdebstrap", &sh(&format!("{during}\n{last_but_one}\nmkdir -p \"$root/etc/ssh\"")));
    let out = "while [ \"$1\" != -o ]; do shift; done; head -c 1024 /dev/zero > \"$2\"";
    world.program("grub-mkimage", &sh(out));
    let disk = "(head -c 510 /dev/zero; printf '\\125\\252'; head -c 65024 /dev/zero) > \"$last\"";
    let convert =
        format!("[ \"$1\" = convert ] || exec /usr/bin/qemu-img \"$@\"\nfor last; do :; done\n{disk}");
    world.program("qemu-img", &sh(&convert));
}

/// Whether goloo can get as far as building here.
fn can_build() -> bool {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let needed = ["/usr/lib/grub/i386-pc/boot.img", "/usr/lib/grub/x86_64-efi", "/usr/bin/qemu-img"];
    let can =
        os.lines().any(|line| line == "ID=debian") && needed.iter().all(|path| Path::new(path).exists());
    if !can {
        eprintln!("skipped: images are built on Debian, with GRUB's parts");
    }
    can && is_root()
}

/// A home folder of `nobody`, and a folder of root with a file that nothing may change.
fn home_and_victim(world: &World) -> (PathBuf, PathBuf) {
    let (home, victim) = (world.path().join("home-of-nobody"), world.path().join("victim"));
    for folder in [home.join(".cache"), victim.join("goloo/images/store")] {
        fs::create_dir_all(folder).unwrap();
    }
    for folder in [&home, &home.join(".cache")] {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for file in ["secret", "goloo/images/store/secret"] {
        fs::write(victim.join(file), "root's").unwrap();
        set_mode(&victim.join(file), 0o600);
    }
    (home, victim)
}

fn build_image(world: &World, home: &Path) -> common::Ran {
    let mut command = world.command();
    for own in ["GOLOO_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "GOLOO_CACHE_DIR"] {
        command.env_remove(own);
    }
    common::Ran(command.env("HOME", home).args(["image", "build", "debian-12"]).output().unwrap())
}

/// The paths and owners of everything below a folder.
fn owners(folder: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut all: Vec<_> = all_below(folder)
        .into_iter()
        .map(|path| {
            let data = fs::symlink_metadata(&path).unwrap();
            (path, data.uid(), data.mode())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_image_built_by_root_belongs_to_the_owner_of_the_cache() {
    if !can_build() {
        return;
    }
    let world = open_world();
    let (home, _) = home_and_victim(&world);
    fake_build_tools(&world, "");
    for _ in 0..2 {
        let built = build_image(&world, &home).expect(0);
        assert!(built.stdout().contains("debian-12 is in the cache (built"), "{built:?}");
    }
    for (path, owner, _) in owners(&home) {
        assert_eq!(owner, NOBODY, "{}", path.display());
    }
    let names = home.join(".cache/goloo/images/names/debian-12-x86_64.built.json");
    assert!(fs::read_to_string(&names).unwrap().contains("\"built\""));
    let images = fs::read_dir(home.join(".cache/goloo/images/store")).unwrap().count();
    assert_eq!(images, 1);
}

/// Users can replace anything in their home, before and during a build by root.
#[test]
fn an_image_build_by_root_follows_no_symlinks_out_of_the_cache() {
    if !can_build() {
        return;
    }
    for replaced in [".cache", ".cache/goloo", ".cache/goloo/images", ".cache/goloo/images/store"] {
        for is_meanwhile in [false, true] {
            let world = open_world();
            let (home, victim) = home_and_victim(&world);
            let (link, target) = (home.join(replaced), victim.join(replaced.trim_start_matches(".cache/")));
            let target = if replaced == ".cache" { victim.clone() } else { target };
            let (link, target) = (link.display(), target.display());
            let replace =
                format!("rm -rf '{link}'; mkdir -p \"$(dirname '{link}')\"; ln -s '{target}' '{link}'");
            let attack = format!(
                "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh -c \"{}\"",
                replace.replace('"', "\\\"").replace('$', "\\$")
            );
            if is_meanwhile {
                fake_build_tools(&world, &attack);
            } else {
                fake_build_tools(&world, "");
                assert!(Command::new("sh").args(["-c", &attack]).status().unwrap().success());
            }
            let before = owners(&victim);
            let refused = build_image(&world, &home).expect(1);
            assert_eq!(owners(&victim), before, "{replaced}");
            assert!(refused.stderr().contains("as user 65534"), "{replaced}: {refused:?}");
        }
    }
}
