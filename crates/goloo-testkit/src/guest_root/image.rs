//! The tree of an image's root file system, extracted once per image.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

const SECTOR: u64 = 512;

/// An image's tree. It isn't removed while this value lives.
#[derive(Debug)]
pub struct GuestImage {
    tree: PathBuf,
    _in_use: File,
}

impl GuestImage {
    /// Extracts the tree of `disk` (qcow2, root file system in the first partition), whose digest is `sha256`, into
    /// `cache`. Trees of earlier images with this name are removed.
    pub fn extract(cache: &Path, name: &str, disk: &Path, sha256: &str) -> io::Result<Self> {
        let folder = cache.join("roots").join(name);
        fs::create_dir_all(&folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        let tree = folder.join(&sha256[..16]);
        flock(&lock, FlockOperation::LockShared)?;
        if !tree.exists() {
            flock(&lock, FlockOperation::LockExclusive)?;
            if !tree.exists() {
                for entry in fs::read_dir(&folder)? {
                    let path = entry?.path();
                    if path.is_dir() {
                        fs::remove_dir_all(path)?;
                    }
                }
                extract(disk, &folder.join("new"), &tree)?;
            }
            flock(&lock, FlockOperation::LockShared)?;
        }
        Ok(Self { tree, _in_use: lock })
    }

    /// The root of the tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }
}

fn extract(disk: &Path, work: &Path, tree: &Path) -> io::Result<()> {
    let (raw, new) = (work.join("disk.raw"), work.join("tree"));
    fs::create_dir_all(&new)?;
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(&raw))?;
    let device = format!("{}?offset={}", raw.display(), root_offset(&raw)?);
    run(Command::new("debugfs").arg("-R").arg(format!("rdump / \"{}\"", new.display())).arg(&device))?;
    restore_set_id(&device, work, &new)?;
    fs::remove_file(&raw)?;
    fs::rename(&new, tree)?;
    fs::remove_dir_all(work)
}

/// The offset of the first partition of a GPT disk.
fn root_offset(raw: &Path) -> io::Result<u64> {
    let mut file = File::open(raw)?;
    let mut number = |at: u64| -> io::Result<u64> {
        let mut bytes = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let table = number(SECTOR + 72)?;
    Ok(number(table * SECTOR + 32)? * SECTOR)
}

/// debugfs sets the mode before the owner, which clears the set-user-ID bits; `sudo` needs them.
fn restore_set_id(device: &str, work: &Path, tree: &Path) -> io::Result<()> {
    let mut folders = Vec::new();
    list_folders(tree, &mut folders)?;
    let commands = work.join("commands");
    let mut script = io::BufWriter::new(File::create(&commands)?);
    for folder in &folders {
        let inside = folder.strip_prefix(tree).unwrap_or(folder);
        writeln!(script, "ls -p \"/{}\"", inside.display())?;
    }
    script.flush()?;
    let listed = run(Command::new("debugfs").arg("-f").arg(&commands).arg(device))?;
    let mut folder = None;
    for line in listed.lines() {
        // The command is echoed before its output.
        if let Some(command) = line.strip_prefix("debugfs: ls -p ") {
            folder = Some(tree.join(command.trim().trim_matches('"').trim_start_matches('/')));
            continue;
        }
        // "/inode/mode/uid/gid/name/size/"
        let fields: Vec<&str> = line.split('/').collect();
        let (Some(folder), [_, _, mode, _, _, name, ..]) = (&folder, fields.as_slice()) else { continue };
        let Ok(mode) = u32::from_str_radix(mode, 8) else { continue };
        if mode & 0o170_000 == 0o100_000 && mode & 0o6000 != 0 {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode & 0o7777))?;
        }
    }
    Ok(())
}

fn list_folders(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list_folders(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Runs a tool to completion; some are only in root's search path.
fn run(command: &mut Command) -> io::Result<String> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let output = command.env("PATH", path).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let program = command.get_program().to_string_lossy().into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{program}: {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
