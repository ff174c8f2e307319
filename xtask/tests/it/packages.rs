//! What `xtask dist` writes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::programs::{dist, file_ending, goloo, output, run, small_goloo};

/// The names of all pages in a folder, as in `goloo-create(1)`, and of those that they refer to.
fn pages(folder: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut references) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        names.insert(format!("{}(1)", name.trim_end_matches(".gz").trim_end_matches(".1")));
        let text = run(Command::new("zcat").arg("--force").arg(&path)).replace('\\', "");
        let words = text.split_whitespace().filter(|word| word.starts_with("goloo") && word.ends_with("(1)"));
        references.extend(words.map(str::to_owned));
    }
    (names, references)
}

fn unpack_tarball(dist: &Path, prefix: &Path) {
    fs::create_dir_all(prefix).unwrap();
    let tarball = file_ending(dist, ".tar.gz");
    run(Command::new("tar").arg("-xzf").arg(tarball).arg("--strip-components=1").arg("-C").arg(prefix));
}

fn unpack_deb(dist: &Path, root: &Path) {
    run(Command::new("dpkg-deb").arg("-x").args([&file_ending(dist, ".deb"), root]));
}

#[test]
fn every_page_that_a_page_refers_to_is_in_both_packages() {
    let folder = tempfile::tempdir().unwrap();
    let dist = dist(&small_goloo(folder.path()), folder.path(), &[]);
    let (prefix, root) = (folder.path().join("prefix"), folder.path().join("root"));
    unpack_tarball(&dist, &prefix);
    unpack_deb(&dist, &root);
    for man in [prefix.join("share/man/man1"), root.join("usr/share/man/man1")] {
        let (names, references) = pages(&man);
        assert!(names.contains("goloo(1)") && references.contains("goloo-state-push(1)"), "{references:?}");
        assert!(references.is_subset(&names), "missing: {:?}", references.difference(&names));
    }
    for page in fs::read_dir(prefix.join("share/man/man1")).unwrap() {
        let page = page.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&page)
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80");
        let shown = output(&mut man);
        assert!(shown.status.success() && shown.stderr.is_empty(), "{}: {shown:?}", page.display());
    }
}

#[test]
fn the_tarball_is_unpacked_over_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let dist = dist(&small_goloo(folder.path()), folder.path(), &[]);
    let prefix = folder.path().join("prefix");
    fs::create_dir_all(prefix.join("bin")).unwrap();
    fs::set_permissions(prefix.join("bin"), fs::Permissions::from_mode(0o700)).unwrap();
    unpack_tarball(&dist, &prefix);
    let mode = |path: &str| prefix.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("bin"), 0o700, "the permissions of existing folders stay");
    assert_eq!(mode("bin/goloo"), 0o755);
    for path in [
        "share/bash-completion/completions/goloo",
        "share/doc/goloo/LICENSE-APACHE",
        "share/doc/goloo/LICENSE-MIT",
        "share/doc/goloo/README.md",
        "share/fish/vendor_completions.d/goloo.fish",
        "share/man/man1/goloo.1",
        "share/zsh/site-functions/_goloo",
    ] {
        assert_eq!(mode(path), 0o644, "{path}");
    }
    let version = run(Command::new(prefix.join("bin/goloo")).arg("--version"));
    let name = file_ending(&dist, ".tar.gz").file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with(&format!("{}-", version.trim().replace(' ', "-"))), "{name}: {version}");
}

#[test]
fn the_completions_are_for_files_that_shells_load() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    unpack_tarball(&dist(&small_goloo(folder.path()), folder.path(), &[]), &prefix);
    let script = |path: &str| fs::read_to_string(prefix.join("share").join(path)).unwrap();
    let zsh = script("zsh/site-functions/_goloo");
    assert!(zsh.starts_with("#compdef goloo\n"), "{zsh}");
    // zsh runs the file at the first completion, so its last line must complete.
    let called = zsh.lines().last().unwrap().split("&& ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(zsh.contains(&format!("function {called}()")), "{zsh}");
    assert!(script("bash-completion/completions/goloo").contains("complete -o nospace"));
    assert!(script("fish/vendor_completions.d/goloo.fish").contains("complete --keep-order"));
}

#[test]
fn packing_again_gives_the_same_files() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let goloo = small_goloo(folders[0].path());
    let first = dist(&goloo, folders[0].path(), &[]);
    let other = [("UMASK", "077"), ("TZ", "Asia/Tokyo"), ("LC_ALL", "C")];
    let second = dist(&goloo, folders[1].path(), &other);
    let sums = |dist: &Path| fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&first), sums(&second));
    assert_eq!(sums(&first).lines().count(), 4, "{}", sums(&first));
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&first));
}

#[test]
fn the_debian_package_has_no_lintian_errors_or_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let deb = file_ending(&dist(&goloo(folder.path()), folder.path(), &[]), ".deb");
    // What it prints on stderr is about itself: that it is run by root.
    let found = output(Command::new("lintian").args(["--tag-display-limit", "0"]).arg(&deb));
    assert!(found.status.success() && found.stdout.is_empty(), "{found:?}");
    let field = |name: &str| run(Command::new("dpkg-deb").arg("-f").arg(&deb).arg(name)).trim().to_owned();
    assert!(field("Depends").contains("libc6 (>= "), "{}", field("Depends"));
    assert!(field("Depends").ends_with(", openssh-client"), "{}", field("Depends"));
    assert!(field("Recommends").contains("qemu-utils"), "{}", field("Recommends"));
}

#[test]
fn the_formula_is_ruby_and_has_the_checksum_of_the_tarball() {
    let folder = tempfile::tempdir().unwrap();
    let dist = dist(&small_goloo(folder.path()), folder.path(), &[]);
    let formula = dist.join("goloo.rb");
    run(Command::new("ruby").arg("-wc").arg(&formula));
    let sum = run(Command::new("sha256sum").arg(file_ending(&dist, ".tar.gz")));
    let sum = sum.split(' ').next().unwrap();
    let text = fs::read_to_string(formula).unwrap();
    assert!(text.contains(&format!("  sha256 \"{sum}\"\n")), "{sum}:\n{text}");
}
