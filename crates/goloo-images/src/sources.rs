//! The package sources of a build: the Debian mirrors of this machine, with the suites of the release being built, and
//! the keys that sign it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The output format of `apt-get indextargets`, which [`lines_for`] parses. The origin is last because it may contain
/// spaces; apt prints the field's own name there until it has fetched the lists.
pub(super) const FORMAT: &str = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";

/// Suites that refer to another release every two years.
const MOVING: [&str; 6] = ["oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"];

/// Suffixes of a release's suites. Before Debian 11, security updates were in `NAME/updates`.
const PARTS: [(&str, &str); 4] =
    [("", ""), ("-updates", "-updates"), ("-security", "-security"), ("/updates", "-security")];

/// The folder of Debian's keyrings, and their file extensions.
const KEYRINGS: &str = "/usr/share/keyrings";
const ENDINGS: [&str; 2] = ["gpg", "pgp"];

/// The apt sources, one line per suite, from lines in [`FORMAT`]: this machine's mirrors of the release `host`, with
/// `release` in its place. Third-party sources, such as a vendor's, are omitted.
pub(super) fn lines_for(listed: &str, host: &str, release: &str) -> String {
    let lines: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(4, ' ');
            let (uri, suite, component) = (fields.next()?, fields.next()?, fields.next()?);
            let origin = fields.next().map(str::trim).filter(|origin| !origin.starts_with("$("));
            let part = part_of(suite, host, origin)?;
            (component == "main").then(|| format!("deb {uri} {release}{part} main\n"))
        })
        .collect();
    lines.into_iter().collect()
}

/// Which part of the host's release a suite is; `None` if it isn't one.
fn part_of(suite: &str, host: &str, origin: Option<&str>) -> Option<&'static str> {
    let is_debian = origin == Some("Debian");
    if !is_debian && origin.is_some_and(|origin| !origin.is_empty()) {
        return None;
    }
    // Vendors also have suites called "stable".
    let names = [host].into_iter().chain(MOVING.into_iter().filter(|_| is_debian));
    names.into_iter().find_map(|name| {
        let rest = suite.strip_prefix(name)?;
        PARTS.iter().find(|(end, _)| *end == rest).map(|(_, part)| *part)
    })
}

/// The keyring with the keys of all releases this machine knows.
pub(super) fn keyring() -> Option<PathBuf> {
    in_folder(Path::new(KEYRINGS), "debian-archive-keyring")
}

/// Whether this machine has the key that signs a release.
pub(super) fn has_key_of(release: &str) -> bool {
    in_folder(Path::new(KEYRINGS), &format!("debian-archive-{release}-automatic")).is_some()
}

fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    ENDINGS.iter().map(|ending| folder.join(format!("{name}.{ending}"))).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKWORM: &str = "http://deb.example/debian/ bookworm main Debian\n\
                            http://deb.example/debian/ bookworm-updates main Debian\n\
                            http://deb.example/debian/ bookworm-backports main Debian Backports\n\
                            http://deb.example/debian/ bookworm contrib Debian\n\
                            http://sec.example/debian-security/ bookworm-security main Debian\n\
                            http://vendor.example/apt/ nodistro main . nodistro\n\
                            http://vendor.example/hash/ bookworm main Artifactory\n\
                            http://vendor.example/browser/ stable main Vendor LLC\n\
                            http://vendor.example/apt/ sdk-bookworm main Vendor\n";

    #[test]
    fn sources_of_the_hosts_release_are_used_unchanged() {
        assert_eq!(
            lines_for(BOOKWORM, "bookworm", "bookworm"),
            "deb http://deb.example/debian/ bookworm main\n\
             deb http://deb.example/debian/ bookworm-updates main\n\
             deb http://sec.example/debian-security/ bookworm-security main\n"
        );
    }

    #[test]
    fn another_release_uses_the_mirrors_of_the_host() {
        assert_eq!(
            lines_for(BOOKWORM, "bookworm", "trixie"),
            "deb http://deb.example/debian/ trixie main\n\
             deb http://deb.example/debian/ trixie-updates main\n\
             deb http://sec.example/debian-security/ trixie-security main\n"
        );
        let buster = "http://sec.example/ buster/updates main Debian\n";
        assert_eq!(
            lines_for(buster, "buster", "bookworm"),
            "deb http://sec.example/ bookworm-security main\n"
        );
    }

    #[test]
    fn a_moving_suite_is_used_if_its_origin_is_debian() {
        let stable = "http://deb.example/debian/ stable main Debian\n\
                      http://deb.example/debian/ stable-updates main Debian\n\
                      http://vendor.example/ stable main $(ORIGIN)\n";
        assert_eq!(
            lines_for(stable, "trixie", "bookworm"),
            "deb http://deb.example/debian/ bookworm main\n\
             deb http://deb.example/debian/ bookworm-updates main\n"
        );
    }

    #[test]
    fn sources_with_unknown_origin_are_used_by_codename() {
        let listed = "http://deb.example/debian/ trixie main $(ORIGIN)\n";
        assert_eq!(lines_for(listed, "trixie", "bookworm"), "deb http://deb.example/debian/ bookworm main\n");
    }

    #[test]
    fn a_keyring_may_have_either_file_extension() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(in_folder(folder.path(), "ring"), None);
        let ring = folder.path().join("ring.pgp");
        std::fs::write(&ring, "").expect("a file");
        assert_eq!(in_folder(folder.path(), "ring"), Some(ring));
    }
}
