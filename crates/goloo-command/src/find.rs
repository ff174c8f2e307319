//! Where a program is.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Finds a program by its path or by its name in the search path.
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let path = Path::new(name);
    if path.components().count() > 1 {
        return executable(path).then(|| path.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| executable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        let shell = find_program(OsStr::new("sh"));
        assert!(shell.as_ref().is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program(shell.unwrap_or_default().as_os_str()), find_program(OsStr::new("sh")));
        assert_eq!(find_program(OsStr::new("no-such-program")), None);
        assert_eq!(find_program(OsStr::new("/etc/passwd")), None);
    }
}
