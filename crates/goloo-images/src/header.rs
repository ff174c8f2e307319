//! Reads what an image file is from its header before any QEMU program opens it: those trust what a file says about
//! itself and open other files it names.
//!
//! Sources: QEMU's `docs/interop/qcow2.txt`, the limits of `block/qcow2.c`; UEFI 2.10, chapter 5, for GPT.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::entry::Format;

/// What is wrong with an image file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    /// A compressed file or archive.
    #[error("it is compressed or archived with {packer}")]
    Packed {
        /// The packer.
        packer: &'static str,
    },
    /// A disk in a format goloo can't start machines from.
    #[error("its format is {format}")]
    Format {
        /// The format as `qemu-img convert -f` takes it.
        format: &'static str,
    },
    /// Not a bootable disk.
    #[error("it has neither a qcow2 header nor a partition table")]
    NoDisk,
    /// The backing file would let a guest read any file on this computer.
    #[error("it has a backing file")]
    OtherFile,
    /// goloo can't ask for the passphrase.
    #[error("it is encrypted")]
    Encrypted,
    /// Its end is missing.
    #[error("it is truncated: {what} ends at byte {end}, the file at {length}")]
    Truncated {
        /// What extends beyond the end of the file.
        what: &'static str,
        /// Where that would end, in bytes.
        end: u64,
        /// The file's size in bytes.
        length: u64,
    },
    /// The header contradicts itself or exceeds the format's limits.
    #[error("its header is invalid: {what}")]
    Broken {
        /// Which field.
        what: &'static str,
    },
    /// A later version of the format, or a feature goloo doesn't know.
    #[error("it needs a qcow2 feature that goloo doesn't support ({features:#x})")]
    UnknownFeature {
        /// The unknown bits of the incompatible-features field.
        features: u64,
    },
    /// Another program found its tables to be inconsistent.
    #[error("it is marked as corrupt")]
    Corrupt,
}

impl ImageRefusal {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Packed { packer } => format!("extract the disk image with {packer}, and use that"),
            Self::Format { format } => {
                format!("run `qemu-img convert -f {format} -O qcow2 IN OUT`, and give OUT")
            }
            Self::OtherFile => {
                "run `qemu-img convert -O qcow2 IN OUT`, which makes an image without a backing file"
                    .to_owned()
            }
            Self::Encrypted => {
                "run `qemu-img convert` with its secret to make an unencrypted image".to_owned()
            }
            Self::Truncated { .. } => "download it again, and compare its size or digest".to_owned(),
            Self::Corrupt => "run `qemu-img check -r all IMAGE` on a copy, or download it again".to_owned(),
            Self::NoDisk | Self::Broken { .. } | Self::UnknownFeature { .. } => {
                "use a qcow2 or raw disk image; `qemu-img info IMAGE` shows what it is".to_owned()
            }
        }
    }
}

/// Why a header couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// goloo can't use the image.
    #[error(transparent)]
    Refused(#[from] ImageRefusal),
    /// The file can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What an image file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its format.
    pub format: Format,
    /// The size of the disk that it holds, in bytes.
    pub virtual_size: u64,
}

/// The largest virtual size that is accepted, in bytes: 64 TiB, the maximum of EBS.
const VIRTUAL_SIZE_MAX: u64 = 64 << 40;
const SECTOR: u64 = 512;

/// Reads the header of an image, which must be a regular file, and checks that everything it refers to exists.
pub fn read(file: &File) -> Result<Header, HeaderError> {
    read_embedded(file, 0, file.metadata()?.len())
}

/// As [`read`], for an image that is a part of a file: where it begins and how long it is, in bytes.
pub fn read_embedded(file: &File, start: u64, length: u64) -> Result<Header, HeaderError> {
    let image = Image { file, start, length };
    let head = image.up_to(0, 1024)?;
    if let Some(refusal) = foreign(&image, &head)? {
        return Err(refusal.into());
    }
    let header = if head.starts_with(QCOW) { qcow2(&image)? } else { raw(&image, &head)? };
    if header.virtual_size == 0 || header.virtual_size > VIRTUAL_SIZE_MAX {
        return Err(ImageRefusal::Broken { what: "the disk's size" }.into());
    }
    Ok(header)
}

/// A part of a file.
struct Image<'a> {
    file: &'a File,
    start: u64,
    length: u64,
}

impl Image<'_> {
    /// Up to `count` bytes from `offset`; fewer at the end of the file.
    fn up_to(&self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        let count = count.min(self.length.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(count).map_err(io::Error::other)?];
        let place = self.start.checked_add(offset).ok_or(io::ErrorKind::InvalidData)?;
        self.file.read_exact_at(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Fails if the file ends before this range does.
    fn expect(&self, what: &'static str, offset: u64, size: u64) -> Result<(), ImageRefusal> {
        let end = offset.checked_add(size).ok_or(ImageRefusal::Broken { what })?;
        if end > self.length {
            return Err(ImageRefusal::Truncated { what, end, length: self.length });
        }
        Ok(())
    }

    fn table(&self, what: &'static str, offset: u64, size: u64) -> Result<Vec<u64>, HeaderError> {
        self.expect(what, offset, size)?;
        let bytes = self.up_to(offset, size)?;
        let (entries, _) = bytes.as_chunks::<8>();
        Ok(entries.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
    }
}

/// Recognizes formats goloo can't start machines from, by the file's first or last bytes.
fn foreign(image: &Image<'_>, head: &[u8]) -> io::Result<Option<ImageRefusal>> {
    const PACKERS: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
    ];
    const FORMATS: [(usize, &[u8], &str); 13] = [
        (0, b"KDMV", "vmdk"),
        (0, b"COWD", "vmdk"),
        (0, b"# Disk DescriptorFile", "vmdk"),
        (0, b"conectix", "vpc"),
        (0, b"vhdxfile", "vhdx"),
        (64, b"\x7f\x10\xda\xbe", "vdi"),
        (0, b"QED\0", "qed"),
        (0, b"QFI\xfb\0\0\0\x01", "qcow"),
        (0, b"WithoutFreeSpace", "parallels"),
        (0, b"WithouFreSpacExt", "parallels"),
        (0, b"Bochs Virtual HD Image", "bochs"),
        (0, b"#!/bin/sh\n#V2.0 Format", "cloop"),
        (257, b"ustar", "tar"),
    ];
    if head.starts_with(b"LUKS\xba\xbe") {
        return Ok(Some(ImageRefusal::Encrypted));
    }
    if let Some((_, packer)) = PACKERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(Some(ImageRefusal::Packed { packer }));
    }
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, format)) = FORMATS.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Ok(Some(match *format {
            "tar" => ImageRefusal::Packed { packer: "tar" },
            format => ImageRefusal::Format { format },
        }));
    }
    // These formats start with the disk and are identified by a footer.
    let tail = image.up_to(image.length.saturating_sub(SECTOR), SECTOR)?;
    if head.starts_with(QCOW) {
        return Ok(None);
    }
    let trailers: [(&[u8], &str); 2] = [(b"conectix", "vpc"), (b"koly", "dmg")];
    let trailer = trailers.iter().find(|(magic, _)| tail.starts_with(magic));
    Ok(trailer.map(|(_, format)| ImageRefusal::Format { format }))
}

fn raw(image: &Image<'_>, head: &[u8]) -> Result<Header, HeaderError> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Err(ImageRefusal::NoDisk.into());
    }
    if !image.length.is_multiple_of(SECTOR) {
        let end = image.length.next_multiple_of(SECTOR);
        return Err(ImageRefusal::Truncated { what: "its last sector", end, length: image.length }.into());
    }
    partitions(image, head)?;
    Ok(Header { format: Format::Raw, virtual_size: image.length })
}

/// Whether all partitions lie within the file. Data that only looks like a table is the guest's concern.
fn partitions(image: &Image<'_>, mbr: &[u8]) -> Result<(), HeaderError> {
    /// The type of the partition entry that protects a GPT disk from tools that don't know GPT.
    const PROTECTIVE: u8 = 0xee;
    let entries: Vec<&[u8]> = mbr[446..510].chunks(16).collect();
    if entries.iter().any(|entry| entry[4] == PROTECTIVE) {
        return gpt(image);
    }
    for entry in entries {
        let (start, count) = (u64::from(le32(entry, 8)), u64::from(le32(entry, 12)));
        // A boot sector without a table contains code here.
        let is_entry = matches!(entry[0], 0 | 0x80) && entry[4] != 0 && start > 0 && count > 0;
        if is_entry {
            image.expect("a partition", start * SECTOR, count * SECTOR)?;
        }
    }
    Ok(())
}

fn gpt(image: &Image<'_>) -> Result<(), HeaderError> {
    // Disk sectors have 512 bytes, on some disks 4096.
    for sector in [SECTOR, 4096] {
        let header = image.up_to(sector, 92)?;
        if header.len() < 92 || !header.starts_with(b"EFI PART") {
            continue;
        }
        let backup = le64(&header, 32);
        image.expect("its backup partition table", backup.saturating_mul(sector), sector)?;
    }
    Ok(())
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}

const QCOW: &[u8] = b"QFI\xfb";
/// How many bytes of the header goloo reads.
const QCOW2_HEADER: usize = 112;
/// The size of the version 2 header.
const QCOW2_V2_HEADER: usize = 72;

/// Feature bits that a reader of a qcow2 image must know.
mod incompatible {
    /// Reference counts may be wrong, which matters only to writers.
    pub const DIRTY: u64 = 1;
    pub const CORRUPT: u64 = 1 << 1;
    pub const EXTERNAL_DATA: u64 = 1 << 2;
    pub const COMPRESSION_TYPE: u64 = 1 << 3;
    pub const EXTENDED_L2: u64 = 1 << 4;
    pub const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
}

/// The header extension that names an external file with the disk's data.
const EXTERNAL_DATA_NAME: u32 = 0x4441_5441;

/// QEMU's own limits, in bytes.
const L1_MAX: u64 = 32 << 20;
/// Maximum total size of the L2 tables read, in bytes: they may lie in a sparse file.
const TABLES_MAX: u64 = 1 << 30;
const REFCOUNT_TABLE_MAX: u64 = 8 << 20;
const SNAPSHOTS_MAX: u32 = 65536;

/// The offset bits of a table entry: bits 9 to 55.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

fn qcow2(image: &Image<'_>) -> Result<Header, HeaderError> {
    let mut head = image.up_to(0, QCOW2_HEADER as u64)?;
    image.expect("its header", 0, QCOW2_V2_HEADER as u64)?;
    head.resize(QCOW2_HEADER, 0);
    let be32 = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let be64 = |at: usize| u64::from(be32(at)) << 32 | u64::from(be32(at + 4));
    let broken = |what: &'static str| HeaderError::Refused(ImageRefusal::Broken { what });
    let version = be32(4);
    let (features, refcount_order, header_length) = match version {
        2 => (0, 4, QCOW2_V2_HEADER as u32),
        3 => (be64(72), be32(96), be32(100)),
        _ => return Err(broken("its version")),
    };
    if features & !incompatible::KNOWN != 0 {
        return Err(ImageRefusal::UnknownFeature { features: features & !incompatible::KNOWN }.into());
    }
    if features & incompatible::CORRUPT != 0 {
        return Err(ImageRefusal::Corrupt.into());
    }
    if be64(8) != 0 || be32(16) != 0 || features & incompatible::EXTERNAL_DATA != 0 {
        return Err(ImageRefusal::OtherFile.into());
    }
    if be32(32) != 0 {
        return Err(ImageRefusal::Encrypted.into());
    }
    let cluster_bits = be32(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(broken("its cluster size"));
    }
    let cluster = 1_u64 << cluster_bits;
    if refcount_order > 6 {
        return Err(broken("its refcount order"));
    }
    let least = if version == 2 { QCOW2_V2_HEADER as u32 } else { 104 };
    if header_length < least || u64::from(header_length) > cluster || !header_length.is_multiple_of(8) {
        return Err(broken("its header length"));
    }
    extensions(image, u64::from(header_length), cluster)?;
    let virtual_size = be64(24);
    let l2_entry = if features & incompatible::EXTENDED_L2 != 0 { 16 } else { 8 };
    let l1 = L1 { offset: be64(40), entries: u64::from(be32(36)), cluster, l2_entry };
    l1.check(virtual_size)?;
    refcounts(image, be64(48), u64::from(be32(56)) * cluster, cluster)?;
    let (snapshots, at) = (be32(60), be64(64));
    if snapshots > SNAPSHOTS_MAX || (snapshots > 0 && !at.is_multiple_of(8)) {
        return Err(broken("its snapshots"));
    }
    // An entry has at least 40 bytes.
    image.expect("its snapshot table", if snapshots > 0 { at } else { 0 }, u64::from(snapshots) * 40)?;
    l1.clusters(image)?;
    Ok(Header { format: Format::Qcow2, virtual_size })
}

/// The header extensions: type, length, and data padded to a multiple of 8. They end at type 0 or at the first cluster.
fn extensions(image: &Image<'_>, start: u64, cluster: u64) -> Result<(), HeaderError> {
    let bytes = image.up_to(start, cluster - start)?;
    let mut rest = bytes.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let kind = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        match kind {
            0 => return Ok(()),
            EXTERNAL_DATA_NAME => return Err(ImageRefusal::OtherFile.into()),
            _ => {}
        }
        let padded = usize::try_from(length).map_or(usize::MAX, |length| length.next_multiple_of(8));
        rest = after.get(padded..).ok_or(ImageRefusal::Broken { what: "one of its extensions" })?;
    }
    Ok(())
}

/// Checks the table that refers to the reference-count clusters.
fn refcounts(image: &Image<'_>, offset: u64, size: u64, cluster: u64) -> Result<(), HeaderError> {
    const WHAT: &str = "its refcount table";
    if size == 0 || size > REFCOUNT_TABLE_MAX || offset == 0 || !offset.is_multiple_of(cluster) {
        return Err(ImageRefusal::Broken { what: WHAT }.into());
    }
    for entry in image.table(WHAT, offset, size)? {
        let block = entry & !0x1ff;
        if block != 0 {
            image.expect("a refcount block", block, cluster)?;
        }
    }
    Ok(())
}

/// The table that refers to the L2 tables, which refer to the disk's clusters.
struct L1 {
    offset: u64,
    entries: u64,
    /// Bytes in a cluster, which is also the size of an L2 table.
    cluster: u64,
    /// Bytes in an L2 entry.
    l2_entry: u64,
}

impl L1 {
    fn check(&self, virtual_size: u64) -> Result<(), ImageRefusal> {
        let broken = ImageRefusal::Broken { what: "its L1 table" };
        if virtual_size > VIRTUAL_SIZE_MAX {
            return Err(ImageRefusal::Broken { what: "the disk's size" });
        }
        let covered = self.cluster * (self.cluster / self.l2_entry);
        if self.entries * 8 > L1_MAX || self.entries < virtual_size.div_ceil(covered) {
            return Err(broken);
        }
        if self.entries > 0 && (self.offset == 0 || !self.offset.is_multiple_of(self.cluster)) {
            return Err(broken);
        }
        Ok(())
    }

    /// Checks every cluster that is referred to. Each table is read only once, however often it is referenced, so that
    /// no more is read than the file holds.
    fn clusters(&self, image: &Image<'_>) -> Result<(), HeaderError> {
        if self.entries == 0 {
            return Ok(());
        }
        let entries = image.table("its L1 table", self.offset, self.entries * 8)?;
        let tables: BTreeSet<u64> =
            entries.iter().map(|entry| entry & OFFSET_MASK).filter(|at| *at != 0).collect();
        if tables.len() as u64 * self.cluster > TABLES_MAX {
            return Err(ImageRefusal::Broken { what: "the number of its L2 tables" }.into());
        }
        for table in tables {
            if !table.is_multiple_of(self.cluster) {
                return Err(ImageRefusal::Broken { what: "an L2 table" }.into());
            }
            let step = usize::try_from(self.l2_entry / 8).map_err(io::Error::other)?;
            let entries = image.table("an L2 table", table, self.cluster)?;
            entries.iter().step_by(step).try_for_each(|entry| self.cluster_is_there(image, *entry))?;
        }
        Ok(())
    }

    /// The last cluster of a file may be partial: bytes past its end read as zeros.
    fn cluster_is_there(&self, image: &Image<'_>, entry: u64) -> Result<(), ImageRefusal> {
        const WHAT: &str = "a data cluster";
        if entry & (1 << 62) != 0 {
            // Compressed: the offset in bytes, then the number of further sectors of 512 bytes.
            let shift = 62 - (self.cluster.trailing_zeros() - 8);
            let offset = entry & ((1 << shift) - 1);
            let sectors = (entry & !(3 << 62)) >> shift;
            return image.expect(WHAT, (offset & !(SECTOR - 1)) + sectors * SECTOR, 1);
        }
        let offset = entry & OFFSET_MASK;
        if offset != 0 {
            image.expect(WHAT, offset, 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use goloo_testkit::mutate::Random;

    use super::*;

    struct Made {
        folder: tempfile::TempDir,
    }

    impl Made {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// An image of 8 MiB with some data, created by `qemu-img`.
        fn image(&self, name: &str, format: &str, options: &[&str]) -> PathBuf {
            let (raw, path) = (self.path("raw"), self.path(name));
            let mut disk = vec![0_u8; 8 << 20];
            disk[510..512].copy_from_slice(&[0x55, 0xaa]);
            (0..8).for_each(|n| disk[(n << 20) + 5000] = 7);
            std::fs::write(&raw, disk).unwrap();
            let mut command = Command::new("qemu-img");
            command.args(["convert", "-f", "raw", "-O", format]).args(options).arg(&raw).arg(&path);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
            path
        }

        /// A file with these bytes.
        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.path(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    fn read_path(path: &Path) -> Result<Header, HeaderError> {
        read(&File::open(path).unwrap())
    }

    #[track_caller]
    fn refusal(path: &Path) -> ImageRefusal {
        match read_path(path).unwrap_err() {
            HeaderError::Refused(refusal) => refusal,
            HeaderError::Io(error) => panic!("{error}"),
        }
    }

    const SIZE: u64 = 8 << 20;

    /// All variants that `qemu-img` creates and goloo accepts.
    fn good(made: &Made) -> Vec<PathBuf> {
        let options: [(&str, &[&str]); 8] = [
            ("v3", &[]),
            ("v2", &["-o", "compat=0.10"]),
            ("small-clusters", &["-o", "cluster_size=512"]),
            ("large-clusters", &["-o", "cluster_size=2M"]),
            ("compressed", &["-c"]),
            ("zstd", &["-c", "-o", "compression_type=zstd"]),
            ("extended", &["-o", "extended_l2=on"]),
            ("one-bit-counts", &["-o", "refcount_bits=1"]),
        ];
        options.iter().map(|(name, options)| made.image(name, "qcow2", options)).collect()
    }

    #[test]
    fn images_made_by_qemu_img_are_accepted() {
        let made = Made::new();
        for path in good(&made) {
            let header = read_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(header, Header { format: Format::Qcow2, virtual_size: SIZE }, "{}", path.display());
        }
        assert_eq!(read_path(&made.path("raw")).unwrap(), Header { format: Format::Raw, virtual_size: SIZE });
    }

    #[test]
    fn other_formats_are_refused_with_the_command_that_converts_them() {
        let made = Made::new();
        for format in ["vmdk", "vpc", "vhdx", "vdi", "qed", "qcow", "parallels"] {
            let refusal = refusal(&made.image(format, format, &[]));
            assert_eq!(refusal, ImageRefusal::Format { format });
            assert!(refusal.hint().contains(&format!("qemu-img convert -f {format} -O qcow2")));
        }
        let fixed = made.image("fixed", "vpc", &["-o", "subformat=fixed"]);
        assert_eq!(refusal(&fixed), ImageRefusal::Format { format: "vpc" });
        assert_eq!(refusal(&made.file("text", b"<!DOCTYPE html>")), ImageRefusal::NoDisk);
        assert_eq!(refusal(&made.file("empty", b"")), ImageRefusal::NoDisk);
        assert_eq!(refusal(&made.file("packed", b"\x1f\x8b\x08")), ImageRefusal::Packed { packer: "gzip" });
    }

    #[test]
    fn encrypted_images_are_refused() {
        let made = Made::new();
        let image = std::fs::read(made.image("v3", "qcow2", &[])).unwrap();
        // AES and LUKS.
        for method in [1, 2] {
            assert_eq!(refusal(&made.file("inside", &with_u32(&image, 32, method))), ImageRefusal::Encrypted);
        }
        let mut whole = std::fs::read(made.path("raw")).unwrap();
        whole[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        assert_eq!(refusal(&made.file("whole", &whole)), ImageRefusal::Encrypted);
    }

    #[test]
    fn images_that_reference_other_files_are_refused() {
        let made = Made::new();
        made.image("base", "qcow2", &[]);
        let data = format!("data_file={},data_file_raw=on", made.path("data").display());
        assert_eq!(refusal(&made.image("external", "qcow2", &["-o", &data])), ImageRefusal::OtherFile);
        let overlay = made.path("overlay");
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base"]).arg(&overlay);
        assert!(command.status().unwrap().success());
        assert_eq!(refusal(&overlay), ImageRefusal::OtherFile);
    }

    /// Truncated anywhere except within the last cluster.
    #[test]
    fn truncated_images_are_refused() {
        let made = Made::new();
        for path in good(&made) {
            let whole = std::fs::read(&path).unwrap();
            for cut in [whole.len() / 4 * 3, whole.len() / 2, whole.len() / 4, 1000] {
                let cut = made.file("cut", &whole[..cut]);
                let refused = read_path(&cut);
                let is_truncated =
                    matches!(refused, Err(HeaderError::Refused(ImageRefusal::Truncated { .. })));
                assert!(is_truncated, "{}: {refused:?}", path.display());
            }
        }
        let mut odd = std::fs::read(made.path("raw")).unwrap();
        odd.truncate(1_000_001);
        let odd = made.file("odd", &odd);
        assert!(matches!(refusal(&odd), ImageRefusal::Truncated { what: "its last sector", .. }));
    }

    /// Partition tables like those of cloud images, truncated before their ends.
    #[test]
    fn raw_images_shorter_than_their_partitions_are_refused() {
        let made = Made::new();
        for label in ["dos", "gpt"] {
            let path = made.file(label, &[]);
            File::options().write(true).open(&path).unwrap().set_len(SIZE).unwrap();
            let mut sfdisk = Command::new("sfdisk");
            sfdisk.args(["-q", "--no-reread", "--no-tell-kernel"]).arg(&path);
            let mut sfdisk = sfdisk.stdin(std::process::Stdio::piped()).spawn().unwrap();
            let table = format!("label: {label}\nstart=2048, size=10000\n");
            std::io::Write::write_all(&mut sfdisk.stdin.take().unwrap(), table.as_bytes()).unwrap();
            assert!(sfdisk.wait().unwrap().success());
            assert_eq!(read_path(&path).unwrap().virtual_size, SIZE, "{label}");
            File::options().write(true).open(&path).unwrap().set_len(4 << 20).unwrap();
            assert!(matches!(refusal(&path), ImageRefusal::Truncated { .. }), "{label}");
        }
    }

    fn with_u32(image: &[u8], at: usize, value: u32) -> Vec<u8> {
        let mut image = image.to_vec();
        image[at..at + 4].copy_from_slice(&value.to_be_bytes());
        image
    }

    #[test]
    fn absurd_headers_are_refused_before_allocating_memory() {
        let made = Made::new();
        let image = std::fs::read(made.image("v3", "qcow2", &[])).unwrap();
        for (at, value) in [
            (4, 4),          // version
            (20, 31),        // cluster bits
            (20, 0),         // cluster bits
            (24, u32::MAX),  // size
            (36, u32::MAX),  // entries of the first table
            (36, 0),         // entries of the first table
            (44, 512),       // its offset, not at a cluster
            (56, u32::MAX),  // clusters of the table of reference counts
            (56, 0),         // clusters of the table of reference counts
            (60, u32::MAX),  // snapshots
            (76, 1 << 30),   // a feature that nobody knows
            (76, 2),         // corrupt
            (96, 7),         // bits of reference counts
            (100, 8),        // header length
            (100, u32::MAX), // header length
        ] {
            let path = made.file("absurd", &with_u32(&image, at, value));
            assert!(read_path(&path).is_err(), "{value} at {at} is taken");
        }
    }

    /// Any header is handled in bounded time and memory, and QEMU accepts every image that goloo accepts.
    #[test]
    fn mutated_headers_are_judged_within_bounds_and_not_more_leniently_than_qemu() {
        let made = Made::new();
        let images: Vec<Vec<u8>> = good(&made).iter().map(|path| std::fs::read(path).unwrap()).collect();
        let mut random = Random::new(0x2545_f491_4f6c_dd1d);
        let mut random = |below: usize| random.below(below);
        let begun = std::time::Instant::now();
        let mut accepted = 0;
        for round in 0..2000 {
            let mut image = images[round % images.len()].clone();
            for _ in 0..=random(4) {
                // The header, or an entry of a table.
                let at = if random(2) == 0 { random(112) } else { random(image.len()) };
                image[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
            }
            if random(4) == 0 {
                image.truncate(random(image.len()));
            }
            let path = made.file("mutant", &image);
            if read_path(&path).is_ok() && round % 40 == 0 {
                let mut command = Command::new("qemu-img");
                let output = command.args(["info", "-f", "qcow2"]).arg(&path).output().unwrap();
                assert!(output.status.success(), "round {round}: {output:?}");
                accepted += 1;
            }
        }
        assert!(accepted > 5, "{accepted} of them were taken");
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    }
}
