//! The Debian package, by `dpkg-deb`, with the dependencies that `dpkg-shlibdeps` finds.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, GzBuilder};

use super::Result;
use super::contents::{PackedFile, Release};
use super::program::output;
use super::template::fill;

const MAINTAINER: &str = "The goloo developers <goloo@users.noreply.github.com>";
/// Below every revision of Debian itself, whose package would replace this one.
const REVISION: &str = "0goloo1";

/// Writes the package into `folder`. `sources` has the templates of its control files.
pub fn write(release: &Release, sources: &Path, binary: &Path, folder: &Path) -> Result<PathBuf> {
    let version = format!("{}-{REVISION}", release.version);
    let (architecture, qemu) = if release.target.starts_with("aarch64") {
        ("arm64", "qemu-efi-aarch64, qemu-system-arm")
    } else {
        ("amd64", "qemu-system-x86")
    };
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("goloo");
    let mut paths = Vec::new();
    let mut size = 0;
    for file in installed_files(release, &version, sources)? {
        file.write(&root)?;
        size += file.content.len().div_ceil(1024);
        paths.push(file.path);
    }
    let sums = output(Command::new("md5sum").args(&paths).current_dir(&root))? + "\n";
    PackedFile::new("DEBIAN/md5sums", 0o644, sums).write(&root)?;
    let folders = folders(&root)?;
    let control = fill(
        &fs::read_to_string(sources.join("control"))?,
        &[
            ("VERSION", &version),
            ("ARCHITECTURE", architecture),
            ("MAINTAINER", MAINTAINER),
            // In KiB, with one for each folder, as dpkg-gencontrol estimates it.
            ("INSTALLED_SIZE", &(size + folders.len()).to_string()),
            ("LIBRARIES", &libraries(binary, scratch.path())?),
            ("QEMU", qemu),
            ("REPOSITORY", env!("CARGO_PKG_REPOSITORY")),
        ],
    )?;
    PackedFile::new("DEBIAN/control", 0o644, control).write(&root)?;
    for folder in folders {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let path = folder.join(format!("goloo_{version}_{architecture}.deb"));
    // The compression is the default of this machine's dpkg. dpkg-deb sorts the entries, and gives none a later time.
    output(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &path])
            .env("SOURCE_DATE_EPOCH", release.date.as_second().to_string()),
    )?;
    Ok(path)
}

/// The files of the package, with paths as Debian has them.
fn installed_files(release: &Release, version: &str, sources: &Path) -> Result<Vec<PackedFile>> {
    let mut files = Vec::new();
    for file in &release.files {
        let path = format!("usr/{}", file.path).replace("/site-functions/", "/vendor-completions/");
        if path.contains("/LICENSE-") {
            // The file `copyright` has them.
        } else if path.contains("/man/") {
            files.push(PackedFile::new(&(path + ".gz"), file.mode, compressed(&file.content)?));
        } else {
            files.push(PackedFile::new(&path, file.mode, file.content.clone()));
        }
    }
    let date = jiff::fmt::rfc2822::to_string(&release.date.to_zoned(jiff::tz::TimeZone::UTC))?;
    let changelog = format!(
        "goloo ({version}) unstable; urgency=medium\n\n  * Release {}: see {}.\n\n -- {MAINTAINER}  {date}\n",
        release.version,
        concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/CHANGELOG.md"),
    );
    let documents = "usr/share/doc/goloo";
    let changelog = compressed(changelog.as_bytes())?;
    files.push(PackedFile::new(&format!("{documents}/changelog.Debian.gz"), 0o644, changelog));
    let copyright = fs::read(sources.join("copyright"))?;
    files.push(PackedFile::new(&format!("{documents}/copyright"), 0o644, copyright));
    Ok(files)
}

/// As `gzip -9n`, which Debian wants for documents.
fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(content)?;
    Ok(gzip.finish()?)
}

/// The folder and all below it.
fn folders(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut folders = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
        folders.insert(folder);
    }
    Ok(folders)
}

/// The packages of the libraries that the binary needs, with their versions.
fn libraries(binary: &Path, scratch: &Path) -> Result<String> {
    // dpkg-shlibdeps only runs in a source package.
    PackedFile::new("debian/control", 0o644, "Source: goloo\n\nPackage: goloo\nArchitecture: any\n")
        .write(scratch)?;
    let substitution =
        output(Command::new("dpkg-shlibdeps").args(["-O", "-e"]).arg(binary).current_dir(scratch))?;
    let libraries = substitution.strip_prefix("shlibs:Depends=");
    Ok(libraries.ok_or_else(|| format!("dpkg-shlibdeps printed {substitution:?}"))?.to_owned())
}
