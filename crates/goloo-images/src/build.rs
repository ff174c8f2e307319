//! Builds images solely from Debian packages, for machines that can't reach a published image. It needs no loop device
//! and mounts nothing of this machine: the root file system is written straight into the image file, and both boot
//! loaders are installed byte by byte, so that the image boots with BIOS and UEFI. The kernel is Debian's general one,
//! because the cloud kernel lacks the 9p file system for `vm.mounts`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_sys::{account, private};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::entry::ImageEntry;
use crate::error::{ImageError, fails_at};
use crate::watch::Watch;
use crate::workshop::Workshop;
use crate::{alias, intake, sources};

/// Programs and the Debian packages that provide them.
const TOOLS: [(&str, &str); 9] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("mformat", "mtools"),
    ("mmd", "mtools"),
    ("mcopy", "mtools"),
    ("grub-mkimage", "grub-common"),
    ("qemu-img", "qemu-utils"),
    ("unshare", "util-linux"),
];

/// Boot loader parts and the Debian packages that provide them.
const GRUB_PARTS: [(&str, &str); 2] =
    [("/usr/lib/grub/i386-pc", "grub-pc-bin"), ("/usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin")];

const PACKAGES: &str = "systemd-sysv,udev,dbus,linux-image-amd64,initramfs-tools,zstd,cloud-init,\
                        cloud-guest-utils,openssh-server,sudo,iproute2,netbase,ca-certificates";

/// Drivers for hardware that no virtual machine has, and manuals.
const LEFT_OUT: [&str; 7] = [
    "/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/infiniband/*",
    "/usr/share/man/*",
    "/usr/share/doc/*",
];

/// Files in the image that belong to no package. Those in the first list are installed before the packages.
const EARLY_FILES: [(&str, &str); 2] = [
    ("etc/initramfs-tools/conf.d/goloo", include_str!("debian/initramfs.conf")),
    ("usr/share/initramfs-tools/modules.d/goloo", include_str!("debian/initramfs.modules")),
];
const FILES: [(&str, &str); 7] = [
    ("boot/grub/grub.cfg", include_str!("debian/grub.cfg")),
    ("etc/cloud/cloud.cfg.d/90_goloo.cfg", include_str!("debian/cloud.cfg")),
    ("etc/fstab", "LABEL=root / ext4 defaults,errors=remount-ro 0 1\n"),
    ("etc/modprobe.d/goloo.conf", include_str!("debian/modprobe.conf")),
    ("etc/systemd/network/80-dhcp.network", include_str!("debian/dhcp.network")),
    (
        "etc/systemd/system/systemd-networkd-wait-online.service.d/limit.conf",
        include_str!("debian/wait-online.conf"),
    ),
    ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
];

/// Units that only cost time in a virtual machine.
const MASKED: [&str; 13] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
];

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// The disk's size. The guest's root grows to `vm.disk` on first boot.
const DISK: u64 = 2048 * MIB;
const BIOS_START: u64 = MIB;
const ESP_START: u64 = 2 * MIB;
const ESP_SIZE: u64 = 8 * MIB;
const ROOT_START: u64 = 10 * MIB;
/// The backup partition table lies at the end of the disk.
const ROOT_SIZE: u64 = DISK - ROOT_START - MIB;

/// Modules built into both boot loaders, so that only `grub.cfg` is read from disk.
const GRUB_MODULES: [&str; 8] =
    ["part_gpt", "ext2", "linux", "normal", "configfile", "search", "search_label", "serial"];

/// How long a program may take to exit after it was asked to stop.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The release to build, and the machine that builds it.
#[derive(Debug, Clone, Copy)]
struct Releases<'a> {
    /// The image's name.
    image: &'a str,
    /// Its release's code name.
    target: &'a str,
    /// The code name of the release that this machine runs.
    host: &'a str,
}

/// Builds the image `name` (`debian-12`, …) and puts it into the cache. This takes one to three minutes, needs root,
/// and works on every Debian whose mirror has this release.
///
/// Root works in a folder of its own and never in a cache that belongs to another user: see [`intake`].
pub fn build(cache: &Cache, name: &str, watch: &dyn Watch) -> Result<ImageEntry, ImageError> {
    let unknown = || ImageError::UnknownAlias { name: name.to_owned() };
    alias::names().find(|known| *known == name).ok_or_else(unknown)?;
    let host = check_host(name)?;
    let target = alias::codename(name).ok_or_else(unknown)?;
    check_tools()?;
    let failed = fails_at(cache.folder());
    let owner = account::on_the_way_to(cache.folder()).map_err(&failed)?;
    let program = std::env::current_exe().map_err(&failed)?;
    if owner.is_none() {
        cache.make_folders()?;
        private::check(cache.folder())?;
    }
    let workshop = Workshop::open()?;
    let releases = Releases { image: name, target, host: &host };
    let image = Build { folder: &workshop.folder(), releases, watch }.run(cache.qemu_img())?;
    watch.event(Event::Step { what: "adding the image to the cache".to_owned() });
    let mut file = File::open(&image).map_err(fails_at(&image))?;
    let owner = owner.map(|account| (account, program.as_path()));
    let entry = intake::take(cache, name, &mut file, owner, watch)?;
    workshop.close()?;
    Ok(entry)
}

/// The image that is built by default: that of the Debian release this machine runs.
pub fn host_image() -> Option<&'static str> {
    let host = host_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())?;
    alias::names().find(|name| alias::codename(name) == Some(host.as_str()))
}

/// The code name of this machine's release; an error if this machine can't build the image.
fn check_host(name: &str) -> Result<String, ImageError> {
    let cannot = |reason: String, hint: &str| not_buildable(name, reason, hint);
    if !name.starts_with("debian-") {
        return Err(cannot(
            "only Debian images are built from packages".to_owned(),
            "download the image elsewhere and write its path as vm.image",
        ));
    }
    if Arch::host() != Arch::X86_64 {
        return Err(cannot(
            format!("this machine is {}; images can only be built for x86_64", Arch::host()),
            "download the image elsewhere and write its path as vm.image",
        ));
    }
    let Some(host) = host_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default()) else {
        return Err(cannot(
            "this machine doesn't run Debian".to_owned(),
            "build it on a machine that does, then write the image's path as vm.image",
        ));
    };
    if !rustix::process::geteuid().is_root() {
        return Err(not_buildable(
            name,
            "it needs root, to unpack packages with their owners".to_owned(),
            NextStep::ImageBuild(name.to_owned()),
        ));
    }
    Ok(host)
}

fn not_buildable(name: &str, reason: String, hint: impl Into<Hint>) -> ImageError {
    ImageError::NotBuildable { name: name.to_owned(), reason, hint: hint.into() }
}

fn host_codename(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

/// Whether the programs that a build needs are installed.
pub fn check_tools() -> Result<(), ImageError> {
    let programs = TOOLS.iter().filter(|(program, _)| find_tool(program).is_none());
    let parts = GRUB_PARTS.iter().filter(|(folder, _)| !Path::new(folder).is_dir());
    let missing: Vec<_> = programs.chain(parts).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: BTreeSet<&str> = missing.iter().map(|(_, package)| *package).collect();
    Err(ImageError::Tools {
        programs: missing.iter().map(|(program, _)| (*program).to_owned()).collect(),
        packages: packages.into_iter().map(str::to_owned).collect(),
    })
}

/// Some tools are only in root's search path.
fn find_tool(program: &str) -> Option<PathBuf> {
    goloo_command::find_program(program.as_ref()).or_else(|| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .find_map(|folder| goloo_command::find_program(Path::new(folder).join(program).as_os_str()))
    })
}

/// A build in its own folder.
struct Build<'a> {
    folder: &'a Path,
    releases: Releases<'a>,
    watch: &'a dyn Watch,
}

impl Build<'_> {
    fn run(&self, qemu_img: &Path) -> Result<PathBuf, ImageError> {
        let (root, disk, image) = (self.at("root"), self.at("disk.raw"), self.at("image.qcow2"));
        self.step("downloading and unpacking Debian's packages");
        let sources = self.sources()?;
        self.bootstrap(&root, &sources).map_err(|error| self.explain(error))?;
        self.finish_root(&root).map_err(fails_at(&root))?;
        self.step("writing the file system");
        self.partition(&disk)?;
        self.run_tool(
            Command::new("mke2fs")
                .args([
                    "-q",
                    "-F",
                    "-t",
                    "ext4",
                    "-L",
                    "root",
                    "-O",
                    "^metadata_csum_seed,^orphan_file",
                    "-d",
                ])
                .arg(&root)
                .args(["-E", &format!("offset={ROOT_START}"), "-b", "4096"])
                .arg(&disk)
                .arg(format!("{}k", ROOT_SIZE / 1024)),
        )?;
        self.step("installing the boot loaders");
        self.install_uefi(&disk)?;
        self.install_bios(&disk)?;
        self.step("packing the image");
        self.run_tool(
            Command::new(qemu_img)
                .args(["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"])
                .arg(&disk)
                .arg(&image),
        )?;
        Ok(image)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn step(&self, what: &str) {
        self.watch.event(Event::Step { what: what.to_owned() });
    }

    /// Uses the host's mirrors, so that the image's packages come from the same place as the host's.
    fn sources(&self) -> Result<PathBuf, ImageError> {
        let Releases { image, target, host } = self.releases;
        let listed = self.run_tool(Command::new("apt-get").args([
            "indextargets",
            "--format",
            sources::FORMAT,
            "Created-By: Packages",
        ]))?;
        let lines = sources::lines_for(&listed, host, target);
        if lines.is_empty() {
            return Err(not_buildable(
                image,
                format!(
                    "apt on this machine has no source for {host}'s main packages, so no mirror is known"
                ),
                "add one to /etc/apt/sources.list".to_owned(),
            ));
        }
        let path = self.at("sources.list");
        fs::write(&path, lines).map_err(fails_at(&path))?;
        Ok(path)
    }

    /// The cause of a failed download of packages, if it is known.
    fn explain(&self, error: ImageError) -> ImageError {
        let Releases { image, target, .. } = self.releases;
        let ImageError::Program { message, .. } = &error else { return error };
        if message.contains("does not have a Release file") {
            let hint = "add a mirror that has it to /etc/apt/sources.list, or download the image elsewhere and \
                        write its path as vm.image";
            return not_buildable(
                image,
                format!("the mirror of this machine has no {target}: {message}"),
                hint.to_owned(),
            );
        }
        if !sources::has_key_of(target) {
            let hint = "sudo apt-get update && sudo apt-get install debian-archive-keyring";
            return not_buildable(
                image,
                format!("this machine's Debian keyring has no key of {target}: {message}"),
                hint.to_owned(),
            );
        }
        error
    }

    fn bootstrap(&self, root: &Path, sources: &Path) -> Result<(), ImageError> {
        let early = self.at("early");
        for (name, content) in EARLY_FILES {
            write_file(&early, name, content).map_err(fails_at(&early))?;
        }
        // With its own mount namespace, nothing it mounts can be left behind.
        let mut command = if self.run_tool(Command::new("unshare").args(["--mount", "true"])).is_ok() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "mmdebstrap"]);
            command
        } else {
            Command::new("mmdebstrap")
        };
        command.args(["--mode=root", "--variant=minbase", "--skip=check/empty"]);
        command.arg(format!("--include={PACKAGES}"));
        // In addition to the keys that apt trusts on this machine, which may lack those of other releases.
        command.args(sources::keyring().map(|path| format!("--keyring={}", path.display())));
        command.args(LEFT_OUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
        // The hook is a shell command; the folder's name is passed through the environment.
        command.arg("--essential-hook=cp -R \"$GOLOO_EARLY\"/. \"$1\"/").env("GOLOO_EARLY", &early);
        command.arg(self.releases.target).arg(root).arg(sources);
        self.run_tool(&mut command).map(drop)
    }

    fn finish_root(&self, root: &Path) -> io::Result<()> {
        for (name, content) in FILES {
            let _ = fs::remove_file(root.join(name));
            write_file(root, name, content)?;
        }
        let units = root.join("etc/systemd/system");
        for unit in MASKED {
            let _ = fs::remove_file(units.join(unit));
            symlink("/dev/null", units.join(unit))?;
        }
        let wanted = units.join("multi-user.target.wants");
        fs::create_dir_all(&wanted)?;
        symlink("/lib/systemd/system/systemd-networkd.service", wanted.join("systemd-networkd.service"))?;
        let online = units.join("network-online.target.wants");
        fs::create_dir_all(&online)?;
        let wait = "systemd-networkd-wait-online.service";
        symlink(Path::new("/lib/systemd/system").join(wait), online.join(wait))?;
        // Each machine generates its own.
        for entry in fs::read_dir(root.join("etc/ssh"))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ssh_host_")) {
                fs::remove_file(path)?;
            }
        }
        fs::write(root.join("etc/machine-id"), "")?;
        fs::write(root.join("etc/hostname"), "debian\n")
    }

    /// The layout of Debian's own cloud images: partition 14 for the BIOS boot loader, 15 for UEFI's, 1 for the root,
    /// which is last so that it can grow.
    fn partition(&self, disk: &Path) -> Result<(), ImageError> {
        File::create(disk).and_then(|file| file.set_len(DISK)).map_err(fails_at(disk))?;
        let line = |number: u32, start: u64, size: u64, kind: &str| {
            format!("disk{number} : start={}, size={}, type={kind}\n", start / SECTOR, size / SECTOR)
        };
        let mut script = "label: gpt\n".to_owned();
        script += &line(1, ROOT_START, ROOT_SIZE, "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
        script += &line(14, BIOS_START, ESP_START - BIOS_START, "21686148-6449-6E6F-744E-656564454649");
        script += &line(15, ESP_START, ESP_SIZE, "C12A7328-F81F-11D2-BA4B-00C93EC93B3B");
        let path = self.at("partitions");
        fs::write(&path, script).map_err(fails_at(&path))?;
        let script = File::open(&path).map_err(fails_at(&path))?;
        self.run_tool(Command::new("sfdisk").arg("--quiet").arg(disk).stdin(script)).map(drop)
    }

    fn grub_image(&self, platform: &str, module: &[&str]) -> Result<PathBuf, ImageError> {
        let config = self.at("early.cfg");
        fs::write(
            &config,
            "search --no-floppy --label root --set=root\nconfigfile ($root)/boot/grub/grub.cfg\n",
        )
        .map_err(fails_at(&config))?;
        let image = self.at(&format!("{platform}.img"));
        self.run_tool(
            Command::new("grub-mkimage")
                .args(["-O", platform, "-p", "/boot/grub", "-c"])
                .arg(&config)
                .arg("-o")
                .arg(&image)
                .args(GRUB_MODULES)
                .args(module),
        )?;
        Ok(image)
    }

    fn install_uefi(&self, disk: &Path) -> Result<(), ImageError> {
        let image = self.grub_image("x86_64-efi", &[])?;
        let mut place = disk.as_os_str().to_owned();
        place.push(format!("@@{ESP_START}"));
        let sectors = (ESP_SIZE / SECTOR).to_string();
        self.run_tool(
            Command::new("mformat").arg("-i").arg(&place).args(["-T", &sectors, "-v", "ESP", "::"]),
        )?;
        for folder in ["::/EFI", "::/EFI/BOOT"] {
            self.run_tool(Command::new("mmd").arg("-i").arg(&place).arg(folder))?;
        }
        self.run_tool(Command::new("mcopy").arg("-i").arg(&place).arg(&image).arg("::/EFI/BOOT/BOOTX64.EFI"))
            .map(drop)
    }

    /// Does to the image's bytes what `grub-install` does to a real disk: the core image goes into its partition and
    /// records where its second sector lies; `boot.img` goes into the first sector and records where the core image
    /// lies. GRUB's `include/grub/i386/pc/boot.h` defines the offsets.
    fn install_bios(&self, disk: &Path) -> Result<(), ImageError> {
        let core_path = self.grub_image("i386-pc", &["biosdisk"])?;
        let boot_path = Path::new("/usr/lib/grub/i386-pc/boot.img");
        let mut core = fs::read(&core_path).map_err(fails_at(&core_path))?;
        let mut boot = fs::read(boot_path).map_err(fails_at(boot_path))?;
        let lba = BIOS_START / SECTOR;
        let fits = boot.len() == 512 && core.len() > 512 && core.len() as u64 <= ESP_START - BIOS_START;
        if !fits {
            return Err(ImageError::Program {
                program: "grub-mkimage".to_owned(),
                status: "done".to_owned(),
                message: format!("a core image of {} bytes doesn't fit", core.len()),
            });
        }
        core[500..508].copy_from_slice(&(lba + 1).to_le_bytes());
        boot[0x5c..0x64].copy_from_slice(&lba.to_le_bytes());
        // Two no-ops in place of a jump: boot from the disk that the BIOS names.
        boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(disk)?;
            // The rest of the first sector belongs to the partition table.
            file.write_all(&boot[..440])?;
            file.seek(SeekFrom::Start(BIOS_START))?;
            file.write_all(&core)
        };
        write().map_err(fails_at(disk))
    }

    /// Runs a program to completion, or ends it when the user interrupts. Returns its standard output; an error
    /// contains the end of all its output.
    fn run_tool(&self, command: &mut Command) -> Result<String, ImageError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let (out, err) = (self.at("out.log"), self.at("err.log"));
        let stdout = File::create(&out).map_err(fails_at(&out))?;
        let stderr = File::create(&err).map_err(fails_at(&err))?;
        let failed =
            |status: String| ImageError::Program { program: program.clone(), status, message: tail(&err) };
        let mut child = command
            .env("PATH", search_path())
            .env("LC_ALL", "C.UTF-8")
            .process_group(0)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| ImageError::CannotRun { program: program.clone(), source })?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| failed(error.to_string()))? {
                break status;
            }
            if self.watch.stopped() {
                end(&mut child);
                return Err(ImageError::Stopped);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if !status.success() {
            return Err(failed(status.to_string()));
        }
        fs::read_to_string(&out).map_err(fails_at(&out))
    }
}

/// Ends a program and all its descendants; gently first, because it may have to clean up.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let Some(group) = group else { return };
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < END_LIMIT {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

/// `sudo` and `su` often omit root's own folders.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn write_file(root: &Path, name: &str, content: &str) -> io::Result<()> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
}

fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2000)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::watch::Unwatched;

    #[test]
    fn a_failed_build_names_the_package_missing_on_the_host() {
        let releases = |target| Releases { image: "debian-99", target, host: "bookworm" };
        let explained = |target, message: &str| {
            let build = Build { folder: Path::new("/"), releases: releases(target), watch: &Unwatched };
            let (program, status) = ("mmdebstrap".to_owned(), "exit status: 25".to_owned());
            build.explain(ImageError::Program { program, status, message: message.to_owned() })
        };
        let no_release =
            "E: The repository 'http://deb.example ripley Release' does not have a Release file.";
        let error = explained("ripley", no_release);
        assert!(error.to_string().contains("the mirror of this machine has no ripley"), "{error}");
        assert!(error.hint().debug_text().contains("/etc/apt/sources.list"), "{:?}", error.hint());
        let error = explained("ripley", "E: NO_PUBKEY 0123456789ABCDEF");
        assert!(error.to_string().contains("keyring has no key of ripley: E: NO_PUBKEY"), "{error}");
        assert!(error.hint().debug_text().contains("debian-archive-keyring"), "{:?}", error.hint());
    }

    #[test]
    fn the_host_codename_is_read_from_os_release() {
        assert_eq!(host_codename("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(host_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(host_codename(""), None);
    }
}
