//! The cloud-init seed: a small FAT image that cloud-init's NoCloud source recognizes by its label.

use std::fmt;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use goloo_model::name::VmName;
use goloo_sys::{durable, read};

/// The volume label that NoCloud looks for.
pub const LABEL: &str = "CIDATA";

/// Room for directories, allocation tables and rounding up to whole clusters.
const SLACK: usize = 1 << 20;
/// The size of a floppy disk: the smallest size known to be recognized.
const SMALLEST: usize = 1_474_560;

/// The largest seed image, in bytes; goloo's own are the size of a floppy disk.
const SEED_MAX: u64 = 16 << 20;

/// The contents of the seed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed<'a> {
    /// The instance id: while it stays the same, cloud-init does its first-boot work only once.
    pub instance_id: &'a str,
    /// The guest's host name.
    pub hostname: &'a str,
    /// The user-data, as cloud-init receives it.
    pub user_data: &'a [u8],
}

impl fmt::Debug for Seed<'_> {
    /// User-data contains secrets: only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance_id, hostname, user_data } = self;
        write!(f, "Seed({instance_id}, {hostname}, {} bytes)", user_data.len())
    }
}

impl Seed<'_> {
    /// Builds the image.
    pub fn image(&self) -> io::Result<Vec<u8>> {
        let sectors = (self.user_data.len() + SLACK).max(SMALLEST).div_ceil(512);
        let mut image = Cursor::new(vec![0_u8; sectors * 512]);
        let mut label = [b' '; 11];
        label[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
        fatfs::format_volume(&mut image, FormatVolumeOptions::new().volume_label(label))?;
        {
            let volume = FileSystem::new(&mut image, FsOptions::new())?;
            let root = volume.root_dir();
            root.create_file("meta-data")?.write_all(self.meta_data().as_bytes())?;
            root.create_file("user-data")?.write_all(self.user_data)?;
            // If it were absent, some versions of cloud-init would search for it elsewhere.
            root.create_file("vendor-data")?;
        }
        Ok(image.into_inner())
    }

    /// Both values consist of letters, digits and `-`, so YAML quoting matters only for one that would parse as a
    /// number or a boolean.
    fn meta_data(&self) -> String {
        format!("instance-id: \"{}\"\nlocal-hostname: \"{}\"\n", self.instance_id, self.hostname)
    }
}

/// Writes a seed that differs from another one only in its host name. Both may be the same file.
pub(crate) fn rename(from: &Path, to: &Path, hostname: &VmName) -> io::Result<()> {
    let seed = Content::of_file(from)?;
    durable::write(to, &seed.under(hostname.as_str()).image()?)
}

/// The contents read from a seed.
pub(crate) struct Content {
    pub(crate) instance_id: String,
    pub(crate) user_data: Vec<u8>,
}

impl Content {
    /// Reads a machine's seed.
    pub(crate) fn of_file(path: &Path) -> io::Result<Self> {
        Self::read(&read::file(path, SEED_MAX)?)
    }

    /// Reads an image that [`Seed::image`] created.
    pub(crate) fn read(image: &[u8]) -> io::Result<Self> {
        let volume = FileSystem::new(Cursor::new(image.to_vec()), FsOptions::new())?;
        let read = |name: &str| {
            let mut content = Vec::new();
            volume.root_dir().open_file(name)?.read_to_end(&mut content)?;
            Ok::<_, io::Error>(content)
        };
        let meta_data = String::from_utf8_lossy(&read("meta-data")?).into_owned();
        let id = meta_data.lines().find_map(|line| line.strip_prefix("instance-id: \"")?.strip_suffix('"'));
        let id = id.ok_or_else(|| io::Error::other("the seed names no instance"))?;
        Ok(Self { instance_id: id.to_owned(), user_data: read("user-data")? })
    }

    /// The same seed with another host name.
    pub(crate) fn under<'a>(&'a self, hostname: &'a str) -> Seed<'a> {
        Seed { instance_id: &self.instance_id, hostname, user_data: &self.user_data }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    fn read(image: &[u8], name: &str) -> Vec<u8> {
        let volume = FileSystem::new(Cursor::new(image.to_vec()), FsOptions::new()).unwrap();
        let mut content = Vec::new();
        volume.root_dir().open_file(name).unwrap().read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn user_data_reaches_the_seed_byte_for_byte() {
        let all_bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        for user_data in [b"#cloud-config\n".as_slice(), b"", &all_bytes] {
            let image = Seed { instance_id: "01J", hostname: "no", user_data }.image().unwrap();
            assert_eq!(read(&image, "user-data"), user_data);
            assert_eq!(read(&image, "meta-data"), b"instance-id: \"01J\"\nlocal-hostname: \"no\"\n");
            assert_eq!(read(&image, "vendor-data"), b"");
        }
    }

    #[test]
    fn a_copied_seed_differs_only_in_its_host_name() {
        let first = Seed { instance_id: "01J", hostname: "devbox", user_data: b"#cloud-config\n" };
        let read = Content::read(&first.image().unwrap()).unwrap();
        assert!(read.under("copy") == Seed { hostname: "copy", ..first });
    }

    /// Differential: mtools is another implementation of the same format.
    #[test]
    fn mtools_can_read_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.img");
        let seed = Seed { instance_id: "01J", hostname: "devbox", user_data: b"#cloud-config\n" };
        std::fs::write(&path, seed.image().unwrap()).unwrap();
        let run = |command: &str, arguments: &[&str]| {
            let output = Command::new(command).arg("-i").arg(&path).args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(run("mlabel", &["-s", "::"]).contains(LABEL));
        assert_eq!(run("mtype", &["::user-data"]), "#cloud-config\n");
    }
}
