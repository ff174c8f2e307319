//! The real command, killed at every system call of it that changes something: for each kind of call at its
//! first, its second, and so on until it gets through. `strace` does the killing: nothing in goloo knows of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ran, World, goloo};

/// Calls that change files or processes, or speak to another process. Opening isn't among them: a
/// file that was opened and not written is like one that wasn't, and its writing is counted.
const CALLS: [&str; 15] = [
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

/// Runs goloo and kills it right before its `n`-th call of this kind; `false` when it got through
/// unharmed, since it makes fewer.
fn killed_at(world: &World, call: &str, n: usize, arguments: &[&str]) -> bool {
    let mut command = Command::new("strace");
    world.settle(&mut command);
    // The question mark: not every processor has every call.
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace=?{call}")]);
    command.args(["-e", &format!("inject=?{call}:signal=KILL:when={n}")]);
    let ran = Ran(command.arg(goloo()).args(arguments).output().unwrap());
    // strace ends the way the program ended: by the signal, or with its exit code.
    if ran.0.status.success() {
        return false;
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ran.0.status.signal(), Some(9), "{arguments:?} at {call} {n}: {ran:?}");
    true
}

/// Runs `prepare`, has the command killed, and runs `check`, once for every call of every kind and once
/// unharmed for each kind; returns how often it was killed.
pub fn everywhere(
    world: &World,
    arguments: &[&str],
    prepare: impl Fn(),
    check: impl Fn(&str, usize),
) -> usize {
    let mut killed = 0;
    for call in CALLS {
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

/// What lies in a world's folder, put back as it was.
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
