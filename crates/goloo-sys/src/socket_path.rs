//! Paths to sockets in folders that may be deeply nested.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A path to a socket in a folder. A socket's path is limited to 107 bytes, so on Linux it leads through the descriptor
/// of the folder.
pub struct SocketPath {
    path: PathBuf,
    _folder: File,
}

impl SocketPath {
    /// The socket of this name in a folder that exists.
    ///
    /// # Errors
    /// Those of the system.
    pub fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let opened = File::open(folder)?;
        #[cfg(target_os = "linux")]
        let path = {
            use std::os::fd::AsRawFd;
            format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()).into()
        };
        #[cfg(not(target_os = "linux"))]
        let path = folder.join(name);
        Ok(Self { path, _folder: opened })
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
