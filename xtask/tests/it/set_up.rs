//! `scripts/set-up.sh` with stand-ins for the package manager: it waits while another one is running, and it replaces
//! nothing that is installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Programs that the script uses as they are.
const REAL: [&str; 17] = [
    "awk", "bash", "cat", "dirname", "env", "grep", "id", "mkdir", "mktemp", "mv", "rm", "sh", "sleep",
    "sort", "touch", "chmod", "printf",
];

/// Programs that it looks for, all of which are installed unless a test removes them.
const INSTALLED: [&str; 27] = [
    "qemu-system-x86_64",
    "qemu-img",
    "ssh",
    "mmdebstrap",
    "mke2fs",
    "mkfs.vfat",
    "mformat",
    "sfdisk",
    "grub-mkimage",
    "python3",
    "hyperfine",
    "strace",
    "node",
    "npm",
    "tmux",
    "zsh",
    "fish",
    "lintian",
    "shellcheck",
    "ruby",
    "man",
    "curl",
    "wget",
    "dpkg-shlibdeps",
    "cargo",
    "dpkg-query",
    "apt-cache",
];

/// Installs a package by creating its command; writes its arguments down. `$HERE/locked` has the number of calls during
/// which another package manager runs, `$HERE/conflict` exists if QEMU's packages conflict with installed ones, and
/// `$HERE/broken` if nothing can be installed.
const APT_GET: &str = r#"#!/bin/sh
echo "$*" >> "$HERE/calls"
locked=$(cat "$HERE/locked" 2>/dev/null || echo 0)
if [ "$locked" -gt 0 ]; then
    echo $((locked - 1)) > "$HERE/locked"
    echo "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)" >&2
    exit 100
fi
for word; do
    case $word in
    download) touch qemu.deb; exit ;;
    qemu-system-x86*) [ ! -e "$HERE/conflict" ] || { echo "E: Packages need to be removed" >&2; exit 100; } ;;
    tmux) [ ! -e "$HERE/broken" ] || { echo "E: Packages need to be removed" >&2; exit 100; } ;;
    esac
done
for word; do
    case $word in
    tmux) printf '#!/bin/sh\n' > "$HERE/bin/tmux"; chmod +x "$HERE/bin/tmux" ;;
    esac
done
"#;

const DPKG_DEB: &str = r#"#!/bin/sh
mkdir -p "$3/usr/bin"
for name in qemu-system-x86_64 qemu-img; do
    printf '#!/bin/sh\n' > "$3/usr/bin/$name"
    chmod +x "$3/usr/bin/$name"
done
"#;

/// A machine with a copy of the script.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn without(missing: &[&str]) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "tree/scripts"] {
            fs::create_dir_all(machine.at(folder)).unwrap();
        }
        for script in ["set-up.sh", "virtiofsd.sh"] {
            let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
            fs::copy(format!("{scripts}/{script}"), machine.at("tree/scripts").join(script)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        for name in REAL {
            let real =
                std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
            symlink(real.unwrap(), machine.at("bin").join(name)).unwrap();
        }
        for name in INSTALLED.iter().filter(|name| !missing.contains(name)) {
            machine.program(name, "#!/bin/sh\n");
        }
        machine.program("virtiofsd", "#!/bin/sh\necho --translate-gid\n");
        machine.program("apt-get", APT_GET);
        machine.program("dpkg-deb", DPKG_DEB);
        machine.program("sudo", "#!/bin/sh\nexec \"$@\"\n");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.at("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the script; the exit status and what it says.
    fn set_up(&self) -> (Option<i32>, String) {
        let mut command = Command::new(self.at("bin/bash"));
        command.env_clear().env("PATH", self.at("bin")).env("HERE", self.folder.path());
        command.env("TMPDIR", self.folder.path());
        let Output { status, stderr, .. } =
            command.arg(self.at("tree/scripts/set-up.sh")).arg("test").output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.at("calls")).unwrap_or_default()
    }
}

#[test]
fn nothing_is_fetched_where_nothing_is_missing() {
    let machine = Machine::without(&[]);
    let (status, said) = machine.set_up();
    assert_eq!((status, machine.calls().as_str()), (Some(0), ""), "{said}");
}

#[test]
fn it_waits_for_a_running_package_manager_and_says_so_once() {
    let machine = Machine::without(&["tmux"]);
    fs::write(machine.at("locked"), "2").unwrap();
    let (status, said) = machine.set_up();
    assert_eq!(status, Some(0), "{said}");
    let waiting = "waiting for another package manager: held by process 4711 (unattended-upgr)";
    assert_eq!(said.matches(waiting).count(), 1, "{said}");
    assert!(machine.at("bin/tmux").exists());
}

#[test]
fn installed_packages_are_neither_removed_nor_downgraded() {
    let machine = Machine::without(&["tmux", "qemu-system-x86_64", "qemu-img"]);
    fs::write(machine.at("conflict"), "").unwrap();
    let (status, said) = machine.set_up();
    assert_eq!(status, Some(0), "{said}");
    // Where QEMU's packages conflict with installed ones, the project has its own copy.
    assert!(said.contains("unpacking a copy into target/qemu"), "{said}");
    assert!(machine.at("tree/target/qemu/usr/bin/qemu-system-x86_64").exists());
    let calls = machine.calls();
    let installs: Vec<&str> = calls.lines().filter(|call| call.contains(" install ")).collect();
    assert!(installs.len() >= 2 && installs.iter().all(|call| call.contains("--no-remove")), "{calls}");
    assert!(!calls.contains("downgrade") && !calls.contains("--force"), "{calls}");
}

#[test]
fn a_conflict_of_other_packages_is_an_error_that_says_what_to_do() {
    let machine = Machine::without(&["tmux"]);
    fs::write(machine.at("broken"), "").unwrap();
    let (status, said) = machine.set_up();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("without removing or downgrading others: tmux"), "{said}");
    assert!(said.contains("hint: see what is in the way with `apt-get install -s tmux`"), "{said}");
}
