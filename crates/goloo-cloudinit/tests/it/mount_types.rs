//! The guest's script that chooses at each boot how the folders of the host are mounted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const SCRIPT: &str = include_str!("../../src/guest/mount-types.sh");
const ROOT: &str = "/dev/vda1 / ext4 defaults 0 1\n";
const NINE: &str = "trans=virtio,version=9p2000.L,msize=131072,nofail";

/// A guest whose files lie in a folder of the test, and whose programs note what they are told to do.
struct Guest {
    folder: tempfile::TempDir,
}

impl Guest {
    /// With what fstab has, and what is mounted.
    fn new(fstab: &str, mounted: &[(&str, &str)]) -> Self {
        let guest = Self { folder: tempfile::tempdir().unwrap() };
        guest.write("fstab", &format!("{ROOT}{fstab}"));
        let mounts = mounted.iter().map(|(target, kind)| format!("goloo0 {target} {kind} rw 0 0\n"));
        guest.write("mounts", &mounts.collect::<String>());
        guest.write("filesystems", "nodev\tproc\n");
        fs::create_dir_all(guest.folder.path().join("devices/virtio0")).unwrap();
        guest.write("devices/virtio0/device", "0x0002\n");
        guest.write("refused", "");
        guest.program("systemctl", "echo \"systemctl $*\"");
        guest.program("modprobe", "echo \"modprobe $*\"; ! grep -qx \"modprobe $2\" refused");
        guest.program(
            "mount",
            "read -r kind <<END\n$(awk -v target=\"$1\" '$2 == target { print $3 }' fstab)\nEND\n\
             echo \"mount $1 $kind\"; ! grep -qx \"mount $kind\" refused && echo \"goloo0 $1 $kind rw 0 0\" >>mounts",
        );
        guest.program(
            "umount",
            "echo \"umount $1\"; ! grep -qx umount refused && sed -i \"\\\\|^goloo[0-9]* $1 |d\" mounts",
        );
        guest
    }

    fn with_virtiofs(self) -> Self {
        self.write("devices/virtio0/device", "0x001a\n");
        self
    }

    /// Does this fail: `modprobe MODULE`, `mount TYPE` or `umount`.
    fn refusing(self, what: &str) -> Self {
        self.write("refused", &format!("{what}\n"));
        self
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Boots, and returns what was done, whether all is mounted, and the lines of fstab after its first.
    fn boot(&self) -> (Vec<String>, bool, String) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let script = SCRIPT
            .replace("/etc/fstab", &at("fstab"))
            .replace("/proc/mounts", &at("mounts"))
            .replace("/proc/filesystems", &at("filesystems"))
            .replace("/sys/bus/virtio/devices", &at("devices"));
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new("/bin/sh")
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .output()
            .unwrap();
        let done = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let fstab = fs::read_to_string(self.folder.path().join("fstab")).unwrap();
        (done, output.status.success(), fstab.strip_prefix(ROOT).unwrap().to_owned())
    }
}

fn over_9p() -> String {
    format!("goloo0 /srv/a 9p rw,{NINE} 0 0\ngoloo1 /srv/b 9p ro,{NINE} 0 0\n")
}

const OVER_VIRTIOFS: &str = "goloo0 /srv/a virtiofs rw,nofail 0 0\ngoloo1 /srv/b virtiofs ro,nofail 0 0\n";

fn words(done: &[&str]) -> Vec<String> {
    done.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn virtiofs_is_chosen_where_the_machine_and_the_kernel_have_it() {
    let guest = Guest::new(&over_9p(), &[]).with_virtiofs();
    let mounts = ["mount /srv/a virtiofs", "mount /srv/b virtiofs"];
    let first = words(&["modprobe -q virtiofs", "systemctl daemon-reload", mounts[0], mounts[1]]);
    assert_eq!(guest.boot(), (first, true, OVER_VIRTIOFS.to_owned()));
    // The next boot has nothing to change, since fstab's mounts come first.
    guest.write("filesystems", "nodev\tvirtiofs\n");
    assert_eq!(guest.boot(), (vec![], true, OVER_VIRTIOFS.to_owned()));
}

#[test]
fn what_fstab_mounted_over_9p_is_mounted_over_virtiofs_unless_it_is_in_use() {
    let nine = [("/srv/a", "9p"), ("/srv/b", "9p")];
    let guest = Guest::new(&over_9p(), &nine).with_virtiofs();
    let (done, all, fstab) = guest.boot();
    assert_eq!(
        done[2..],
        ["umount /srv/a", "mount /srv/a virtiofs", "umount /srv/b", "mount /srv/b virtiofs"]
    );
    assert!(all && fstab == OVER_VIRTIOFS);
    let busy = Guest::new(&over_9p(), &nine).with_virtiofs().refusing("umount");
    let (done, all, fstab) = busy.boot();
    assert_eq!(done[2..], ["umount /srv/a", "umount /srv/b"]);
    assert!(all && fstab == OVER_VIRTIOFS, "the next boot mounts them");
}

#[test]
fn the_choice_is_9p_where_virtiofs_is_missing_or_fails() {
    let all = |guest: Guest, mounted: &[&str], why: &str| {
        let (done, all, fstab) = guest.boot();
        let mounts: Vec<_> = done.into_iter().filter(|line| line.contains("mount ")).collect();
        assert_eq!((mounts, all, fstab), (words(mounted), true, over_9p()), "{why}");
    };
    let nine = ["mount /srv/a 9p", "mount /srv/b 9p"];
    all(Guest::new(OVER_VIRTIOFS, &[]), &nine, "the machine lacks the device");
    all(Guest::new(OVER_VIRTIOFS, &[]).with_virtiofs().refusing("modprobe virtiofs"), &nine, "the kernel");
    let failed = ["mount /srv/a virtiofs", "mount /srv/b virtiofs", nine[0], nine[1]];
    all(Guest::new(OVER_VIRTIOFS, &[]).with_virtiofs().refusing("mount virtiofs"), &failed, "it fails");
    all(Guest::new(&over_9p(), &[("/srv/a", "9p"), ("/srv/b", "9p")]), &[], "as before");
}

#[test]
fn lines_that_somebody_has_changed_stay() {
    let own = "goloo0 /srv/a 9p rw,trans=virtio,cache=loose 0 0\n";
    let guest = Guest::new(own, &[("/srv/a", "9p")]).with_virtiofs();
    assert_eq!(guest.boot(), (words(&["modprobe -q virtiofs"]), true, own.to_owned()));
    let without = Guest::new("", &[]).with_virtiofs();
    assert_eq!(without.boot(), (vec![], true, String::new()));
}

#[test]
fn a_folder_that_cannot_be_mounted_is_reported() {
    let guest = Guest::new(&over_9p(), &[]).refusing("mount 9p");
    assert!(!guest.boot().1);
}
