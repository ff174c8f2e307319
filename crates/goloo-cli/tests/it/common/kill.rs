//! Kills the real command at every system call that changes something: for each kind of call at its first, its second,
//! and so on until the command completes. `strace` does the killing: goloo knows nothing about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ran, World, goloo};

/// Calls that change files or processes, or communicate with another process. Opening isn't among them: a file that was
/// opened and not written is like an unopened one, and writes are counted.
pub const CALLS: [&str; 15] = [
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "ftruncate",
    "clone",
    "clone3",
    "connect",
];

/// Those at which a record is saved and a program of the provider is run: for a command that another test kills at every
/// call, with another provider.
pub const SAVES_AND_PROGRAMS: [&str; 6] = ["rename", "renameat", "renameat2", "unlink", "clone", "clone3"];

/// Runs goloo and kills it right before its `n`-th call of this kind; `false` if it makes fewer and so completes.
pub fn killed_at(world: &World, call: &str, n: usize, arguments: &[&str]) -> bool {
    let mut command = Command::new("strace");
    world.settle(&mut command);
    // The question mark is needed because not every architecture has every call.
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace=?{call}")]);
    command.args(["-e", &format!("inject=?{call}:signal=KILL:when={n}")]);
    let ran = Ran(command.arg(goloo()).args(arguments).output().unwrap());
    // strace exits like the program: by the signal, or with its exit code.
    if ran.0.status.success() {
        return false;
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ran.0.status.signal(), Some(9), "{arguments:?} at {call} {n}: {ran:?}");
    true
}

/// Runs `prepare`, kills the command and runs `check`, once for every call of every kind, and once without killing for
/// each kind; returns the number of kills.
pub fn everywhere(
    world: &World,
    arguments: &[&str],
    prepare: impl Fn(),
    check: impl Fn(&str, usize),
) -> usize {
    at_calls(&CALLS, world, arguments, prepare, check)
}

/// As [`everywhere`], at these kinds of calls only.
pub fn at_calls(
    calls: &[&str],
    world: &World,
    arguments: &[&str],
    prepare: impl Fn(),
    check: impl Fn(&str, usize),
) -> usize {
    let mut killed = 0;
    for call in calls {
        for n in 1.. {
            prepare();
            let through = !killed_at(world, call, n, arguments);
            check(&format!("{} killed at {call} {n}", arguments[0]), n);
            if through {
                break;
            }
            killed += 1;
        }
    }
    println!("{} was killed {killed} times", arguments[0]);
    killed
}

/// A world whose folders can be restored to their original content.
pub struct Kept {
    pub world: World,
    original: PathBuf,
}

impl Kept {
    pub fn new(world: World) -> Self {
        let original = world.path().join("original");
        std::fs::create_dir(&original).unwrap();
        let kept = Self { world, original };
        for part in ["data", "config", "elsewhere"] {
            kept.copy(&kept.world.path().join(part), &kept.original.join(part));
        }
        kept
    }

    fn copy(&self, from: &Path, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        if from.exists() {
            assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        }
    }

    pub fn put_back(&self) {
        for part in ["data", "config", "elsewhere"] {
            self.copy(&self.original.join(part), &self.world.path().join(part));
        }
    }
}
