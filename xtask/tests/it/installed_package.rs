//! The Debian package, installed with dpkg below a folder: what a user then has.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::programs::{dist, file_ending, output, run, small_goloo};

/// A file system with nothing but this package.
struct Root {
    folder: TempDir,
}

impl Root {
    fn with_package() -> Self {
        let root = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["root/var/lib/dpkg/info", "root/var/lib/dpkg/updates", "home"] {
            fs::create_dir_all(root.folder.path().join(folder)).unwrap();
        }
        fs::write(root.at("var/lib/dpkg/status"), "").unwrap();
        let build = root.folder.path();
        let deb = file_ending(&dist(&small_goloo(build), build, &[]), ".deb");
        run(root.dpkg().arg("--install").arg(deb));
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    /// Without the libraries that the package depends on: the ones of this machine are used.
    fn dpkg(&self) -> Command {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.at("").display()));
        dpkg.args(["--force-depends", "--force-not-root", "--force-bad-path", "--log=/dev/null"]);
        self.user(&mut dpkg);
        dpkg
    }

    /// Lets a program find the installed goloo first, and no settings of the user.
    fn user(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.at("usr/bin").display()));
        command.env("HOME", self.folder.path().join("home")).env("LC_ALL", "C.UTF-8");
        command.env("TERM", "xterm").current_dir(self.folder.path().join("home"));
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(name);
        command.args(arguments);
        self.user(&mut command);
        command
    }

    /// The files outside dpkg's own folder.
    fn files(&self) -> String {
        run(Command::new("find")
            .arg(self.at(""))
            .args(["-path", "*/var/lib/dpkg", "-prune", "-o"])
            .args(["-not", "-type", "d", "-print"]))
    }
}

#[test]
fn the_installed_package_is_complete_and_leaves_nothing_when_it_is_removed() {
    let root = Root::with_package();
    // Prints the files that differ from the package's checksums.
    assert_eq!(run(root.dpkg().args(["--verify", "goloo"])), "");
    let listed = run(root.dpkg().args(["--listfiles", "goloo"]));
    for path in ["/usr/bin/goloo", "/usr/share/man/man1/goloo-create.1.gz", "/usr/share/doc/goloo/copyright"]
    {
        assert!(listed.lines().any(|line| line == path), "{path}: {listed}");
    }
    let version = run(&mut root.program("goloo", &["--version"]));
    let installed = run(root.dpkg().args(["--status", "goloo"]));
    let number = version.trim().strip_prefix("goloo ").unwrap();
    assert!(installed.contains(&format!("\nVersion: {number}-0goloo")), "{version}{installed}");

    run(root.dpkg().args(["--purge", "goloo"]));
    assert_eq!(root.files(), "");
}

#[test]
fn man_shows_the_installed_pages() {
    let root = Root::with_package();
    for (page, heading) in
        [("goloo", "goloo - Create the same virtual machine"), ("goloo-state-push", "goloo-state-push - ")]
    {
        let mut man = root.program("man", &[page]);
        let shown = run(man.env("MANPATH", root.at("usr/share/man")).env("MANPAGER", "cat"));
        assert!(shown.contains(heading), "{page}: {shown}");
    }
}

/// What is typed, and what must stand there after Tab.
const TYPED: (&str, &str) = ("goloo protec", "goloo protect");

#[test]
fn bash_completes_with_the_installed_file() {
    let root = Root::with_package();
    // As bash does it at a Tab. The package bash-completion, which would load the file by the command's name, may be missing.
    let script = r#"
        source "$1"
        read -ra COMP_WORDS <<< "$2"
        COMP_CWORD=1 COMP_TYPE=9
        definition=$(complete -p goloo)
        [[ $definition =~ -F\ ([^ ]+) ]] && "${BASH_REMATCH[1]}" goloo "${COMP_WORDS[1]}" goloo
        echo "goloo ${COMPREPLY[*]}""#;
    let file = root.at("usr/share/bash-completion/completions/goloo");
    let mut bash = root.program("bash", &["--norc", "-c", script, "bash"]);
    let completed = run(bash.arg(file).arg(TYPED.0));
    assert_eq!(completed.trim_end(), TYPED.1);
}

#[test]
fn fish_completes_with_the_installed_file() {
    let root = Root::with_package();
    let mut fish = root.program("fish", &["--command", &format!("complete --do-complete '{}'", TYPED.0)]);
    let completed = run(fish.env("XDG_DATA_DIRS", root.at("usr/share")));
    let first = completed.split_whitespace().next().unwrap_or_default();
    assert_eq!(format!("goloo {first}"), TYPED.1, "{completed}");
}

#[test]
fn zsh_completes_with_the_installed_file_at_the_first_tab() {
    let root = Root::with_package();
    let folder = root.at("usr/share/zsh/vendor-completions");
    let script = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "PS1=; fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; echo rea''dy"
        zpty -r shell seen '*ready*'
        zpty -w -n shell "$2"$'\t'
        zpty -r shell seen "*$3*" && print -r -- "$seen""#;
    let mut zsh = root.program("timeout", &["20", "zsh", "-f", "-c", script, "zsh"]);
    let ran = output(zsh.arg(folder).args([TYPED.0, TYPED.1]));
    assert!(ran.status.success(), "zsh didn't complete it: {ran:?}");
}
