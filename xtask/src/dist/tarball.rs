//! The tarball, for any Linux or macOS: `tar --strip-components=1 -C PREFIX` installs it.

use std::fs::File;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use super::Result;
use super::contents::Release;

pub fn write(release: &Release, folder: &Path) -> Result<PathBuf> {
    let name = format!("goloo-{}-{}", release.version, release.target);
    let path = folder.join(format!("{name}.tar.gz"));
    // The header of this gzip stream has neither a time nor a name.
    let gzip = GzBuilder::new().write(File::create(&path)?, Compression::default());
    let mut archive = tar::Builder::new(gzip);
    // Without entries for folders: tar would give those of the prefix, which exist, other permissions.
    for file in &release.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_mtime(u64::try_from(release.date.as_second())?);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("{name}/{}", file.path), file.content.as_slice())?;
    }
    archive.into_inner()?.finish()?;
    Ok(path)
}
