//! The user's `~/.ssh/config`: one line at its top includes goloo's own file. Everything else in it stays as it is.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use goloo_sys::{durable, private, read};

use super::quote::quoted_text;
use crate::error::{Error, SshError};

/// The comment above goloo's line.
const COMMENT: &str = "# VMs of goloo, by name";

/// `~/.ssh/config`, and the file that it includes.
#[derive(Debug, Clone)]
pub struct UserConfig {
    path: PathBuf,
    include: Include,
}

/// goloo's line.
#[derive(Debug, Clone)]
struct Include {
    line: String,
}

impl UserConfig {
    /// The one in this home, with the line that includes `own`. Neither file needs to exist.
    ///
    /// # Errors
    /// [`SshError::UnusablePath`] if the line can't express the path.
    pub fn new(home: &Path, own: &Path) -> Result<Self, SshError> {
        Ok(Self { path: home.join(".ssh/config"), include: Include::of(own)? })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// goloo's line.
    pub fn line(&self) -> &str {
        &self.include.line
    }

    /// Whether it has goloo's line.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn has_line(&self) -> Result<bool, Error> {
        match read::file(&self.path, read::FILE_MAX) {
            Ok(content) => Ok(self.include.is_in(&content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::cannot("read", &self.path, error)),
        }
    }

    /// Adds goloo's line; returns whether it was missing.
    ///
    /// # Errors
    /// [`SshError::UserConfig`] for a file that goloo doesn't change; errors of the system.
    pub fn add_line(&self) -> Result<bool, Error> {
        self.edit(|content| self.include.added_to(content))
    }

    /// Removes goloo's line; returns whether it was there.
    ///
    /// # Errors
    /// As [`Self::add_line`].
    pub fn remove_line(&self) -> Result<bool, Error> {
        self.edit(|content| self.include.removed_from(content))
    }

    fn edit(&self, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<bool, Error> {
        let place = self.place()?;
        let failed = |error| Error::cannot("change", &place, error);
        // An editor may save the file at the same time.
        for _ in 0..ATTEMPTS {
            let before = read_if_there(&place).map_err(failed)?;
            let Some(after) = change(before.as_deref().unwrap_or_default()) else { return Ok(false) };
            if replace(&place, before.as_deref(), &after).map_err(failed)? {
                return Ok(true);
            }
        }
        Err(self.refused("other programs keep changing it"))
    }

    /// The file that is written: what a link points to.
    fn place(&self) -> Result<PathBuf, Error> {
        let place = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.path.clone(),
            Err(error) => return Err(Error::cannot("read", &self.path, error)),
            Ok(found) if found.is_symlink() => self
                .path
                .canonicalize()
                .map_err(|_| self.refused("it is a link to a file that doesn't exist"))?,
            Ok(_) => self.path.clone(),
        };
        if place.exists() && !place.is_file() {
            return Err(self.refused("it is not a regular file"));
        }
        private::check(&place).map_err(|exposed| self.refused(&exposed.to_string()))?;
        Ok(place)
    }

    fn refused(&self, reason: &str) -> Error {
        let (path, line) = (self.path.clone(), self.include.line.clone());
        SshError::UserConfig { path, reason: reason.to_owned(), line }.into()
    }
}

const ATTEMPTS: u32 = 5;

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read::own(path, read::FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file in one step, with its mode; `false` if its content was changed meanwhile.
fn replace(path: &Path, before: Option<&[u8]>, after: &[u8]) -> io::Result<bool> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    private::create_folders(folder)?;
    let mode = fs::metadata(path).map_or(0o600, |found| found.mode() & 0o7777);
    let mut staged = tempfile::Builder::new().prefix(".config.goloo-").tempfile_in(folder)?;
    staged.write_all(after)?;
    staged.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    staged.as_file().sync_all()?;
    if read_if_there(path)?.as_deref() != before {
        return Ok(false);
    }
    match before {
        Some(_) => staged.persist(path).map(drop),
        None => staged.persist_noclobber(path).map(drop),
    }?;
    durable::sync_folder(folder)?;
    Ok(true)
}

impl Include {
    fn of(own: &Path) -> Result<Self, SshError> {
        // ssh reads the path as a pattern, and newer versions expand tokens in it.
        const SPECIAL: [(char, &str); 10] = [
            ('*', "\"*\""),
            ('?', "\"?\""),
            ('[', "\"[\""),
            (']', "\"]\""),
            ('{', "\"{\""),
            ('}', "\"}\""),
            ('%', "\"%\""),
            ('\\', "a backslash"),
            ('"', "a quotation mark"),
            ('\'', "a quotation mark"),
        ];
        let text = own.to_string_lossy();
        if let Some((_, what)) = SPECIAL.iter().find(|(special, _)| text.contains(*special)) {
            return Err(SshError::UnusablePath { path: own.to_owned(), what });
        }
        Ok(Self { line: format!("Include {}", quoted_text(own)?) })
    }

    /// Whether the line is there, outside of the block of a host.
    fn is_in(&self, content: &[u8]) -> bool {
        let starts_block = |line: &[u8]| {
            let word =
                line.split(|byte| byte.is_ascii_whitespace() || *byte == b'=').next().unwrap_or_default();
            word.eq_ignore_ascii_case(b"host") || word.eq_ignore_ascii_case(b"match")
        };
        let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.take_while(|line| !starts_block(line)).any(|line| line == self.line.as_bytes())
    }

    /// The line comes first: ssh uses the first value that it finds, and `Host *` may come next.
    fn added_to(&self, content: &[u8]) -> Option<Vec<u8>> {
        if self.is_in(content) {
            return None;
        }
        let mut new = self.block().into_bytes();
        new.extend_from_slice(content);
        Some(new)
    }

    /// Where the user has changed what is around the line, only the line is removed.
    fn removed_from(&self, content: &[u8]) -> Option<Vec<u8>> {
        let (block, line) = (self.block(), format!("{}\n", self.line));
        for part in [block.as_str(), line.as_str()] {
            let at_line = |at: &usize| *at == 0 || content[at - 1] == b'\n';
            let found = content.windows(part.len()).position(|window| window == part.as_bytes());
            if let Some(at) = found.filter(at_line) {
                return Some([&content[..at], &content[at + part.len()..]].concat());
            }
        }
        None
    }

    fn block(&self) -> String {
        format!("{COMMENT}\n{}\n\n", self.line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "/home/ann/.local/share/goloo/ssh_config";
    const LINE: &str = "Include \"/home/ann/.local/share/goloo/ssh_config\"";

    fn in_home(home: &Path) -> UserConfig {
        UserConfig::new(home, Path::new(OWN)).unwrap()
    }

    fn with_config(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf, UserConfig) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".ssh/config");
        private::create_folders(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let config = in_home(home.path());
        (home, path, config)
    }

    #[test]
    fn the_line_is_added_once_at_the_top_and_removed_without_a_trace() {
        let (_home, path, config) = with_config("# mine\r\nHost *\n\tUser ann", 0o640);
        assert!(!config.has_line().unwrap());
        assert!(config.add_line().unwrap() && config.has_line().unwrap());
        assert!(!config.add_line().unwrap(), "it is never added twice");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{COMMENT}\n{LINE}\n\n# mine\r\nHost *\n\tUser ann"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(config.remove_line().unwrap());
        assert!(!config.remove_line().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\r\nHost *\n\tUser ann");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no file is left");
    }

    #[test]
    fn a_missing_file_is_created_for_this_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let config = in_home(home.path());
        assert!(!config.remove_line().unwrap() && config.add_line().unwrap());
        assert_eq!(fs::metadata(config.path()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(home.path().join(".ssh")).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_line_in_the_block_of_a_host_does_not_count() {
        let include = Include::of(Path::new(OWN)).unwrap();
        for (content, counts) in [
            (format!("  {LINE}\t\nHost x\n"), true),
            (format!("User ann\n{LINE}"), true),
            (format!("Host x\n  {LINE}\n"), false),
            (format!("match=all\n  {LINE}\n"), false),
            (format!("# {LINE}\n"), false),
            (format!("HostName x\n{LINE}\n"), true),
        ] {
            assert_eq!(include.is_in(content.as_bytes()), counts, "{content}");
        }
    }

    #[test]
    fn a_link_stays_and_its_target_is_changed() {
        let (home, path, config) = with_config("", 0o600);
        let real = home.path().join("dotfiles");
        fs::write(&real, "Host x\n").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&real, &path).unwrap();
        assert!(config.add_line().unwrap());
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().ends_with("Host x\n"));
        fs::remove_file(&real).unwrap();
        let refused = config.add_line().unwrap_err();
        assert!(refused.to_string().contains("a link to a file that doesn't exist"), "{refused}");
    }

    #[test]
    fn a_file_that_others_can_change_is_refused_and_left_alone() {
        let (home, path, config) = with_config("Host x\n", 0o602);
        let refused = config.add_line().unwrap_err();
        assert!(matches!(refused, Error::Ssh(SshError::UserConfig { .. })), "{refused:?}");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o777)).unwrap();
        config.add_line().unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "Host x\n");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let refused = config.add_line().unwrap_err();
        assert!(refused.to_string().contains("not a regular file"), "{refused}");
    }

    #[test]
    fn a_change_by_another_program_is_not_overwritten() {
        let (_home, path, _config) = with_config("new", 0o600);
        assert!(!replace(&path, Some(b"old"), b"goloo's").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(replace(&path, None, b"goloo's").is_ok_and(|done| !done));
    }

    #[test]
    fn a_path_that_include_would_expand_is_refused() {
        for path in ["/a*/x", "/100%/x", "/a[b]/x", "/a\"b/x", "/a\\b/x", "/a\nb/x", "/{a}/x"] {
            UserConfig::new(Path::new("/home/ann"), Path::new(path)).unwrap_err();
        }
        let spaces = UserConfig::new(Path::new("/home/ann"), Path::new("/a b/x")).unwrap();
        assert_eq!(spaces.line(), "Include \"/a b/x\"");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn adding_and_removing_restores_any_content(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let include = Include::of(Path::new(OWN)).unwrap();
            let with_line = include.added_to(&content).unwrap();
            prop_assert!(include.is_in(&with_line) && include.added_to(&with_line).is_none());
            prop_assert_eq!(include.removed_from(&with_line), Some(content));
        }
    }
}
