//! The packages of a release: a tarball, a Debian package, the install script, a Homebrew formula, and their checksums.
//!
//! They depend on the binary and on the date of the commit only: the same release packed again gives the same files.

mod build;
mod contents;
mod deb;
mod program;
mod tarball;
mod template;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use contents::Release;
use sha2::{Digest, Sha256};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Packs `binary`, or a release build of the workspace, into `<target>/dist`, and returns the files.
pub fn run(workspace: &Path, binary: Option<&Path>) -> Result<Vec<PathBuf>> {
    let target = build::target_folder(workspace)?;
    let binary = match binary {
        Some(path) => {
            path.canonicalize().map_err(|error| format!("can't find {}: {error}", path.display()))?
        }
        None => build::release(workspace, &target)?,
    };
    let release = Release::read(workspace, &binary)?;
    let packaging = workspace.join("packaging");
    let folder = target.join("dist");
    // Packages of an earlier version would be published with these.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let tarball = tarball::write(&release, &folder)?;
    let formula = formula(&release, &packaging, &tarball)?;
    let mut files = vec![tarball];
    if release.target.contains("linux") {
        files.push(deb::write(&release, &packaging.join("deb"), &binary, &folder)?);
    }
    let script = folder.join("install.sh");
    fs::copy(packaging.join("install.sh"), &script)?;
    files.push(script);
    files.push(write(folder.join("goloo.rb"), formula)?);
    let sums = sums(&files)?;
    files.push(write(folder.join("SHA256SUMS"), sums)?);
    Ok(files)
}

fn write(path: PathBuf, content: impl AsRef<[u8]>) -> Result<PathBuf> {
    fs::write(&path, content).map_err(|error| format!("can't write {}: {error}", path.display()))?;
    Ok(path)
}

/// The Homebrew formula that installs this tarball.
fn formula(release: &Release, packaging: &Path, tarball: &Path) -> Result<String> {
    let formula = fs::read_to_string(packaging.join("goloo.rb"))?;
    let os = if release.target.contains("apple") { "macos" } else { "linux" };
    let arch = if release.target.starts_with("aarch64") { "arm64" } else { "x86_64" };
    template::fill(
        &formula,
        &[
            ("VERSION", &release.version),
            ("TARGET", &release.target),
            ("SHA256", &sha256(tarball)?),
            ("REPOSITORY", env!("CARGO_PKG_REPOSITORY")),
            ("OS", os),
            ("ARCH", arch),
        ],
    )
}

/// The checksums in the format of `sha256sum`, which `install.sh` reads.
fn sums(files: &[PathBuf]) -> Result<String> {
    let line = |file: &PathBuf| Ok(format!("{}  {}\n", sha256(file)?, file_name(file)));
    files.iter().map(line).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a written file has a name").to_string_lossy().into_owned()
}

fn sha256(file: &Path) -> Result<String> {
    let digest = Sha256::digest(fs::read(file)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
