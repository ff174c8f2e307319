//! The release build: as `make build`, without paths of this machine in the binary.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Result;

/// The folder that cargo builds in.
pub fn target_folder(workspace: &Path) -> Result<PathBuf> {
    let set = env::var_os("CARGO_TARGET_DIR");
    Ok(std::path::absolute(set.map_or_else(|| workspace.join("target"), PathBuf::from))?)
}

/// Builds the command and returns its path.
pub fn release(workspace: &Path, target: &Path) -> Result<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let cargo_home = cargo_home.ok_or("neither CARGO_HOME nor HOME is set")?;
    // Panics name the source file; the place where it was built is nobody's business, and changes the binary.
    let local = [(cargo_home.as_path(), "cargo"), (workspace, "goloo")];
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--bin", "goloo", "--target-dir"])
        .arg(target)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", rustc_flags(&local))
        .status()
        .map_err(|error| format!("can't run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the release build failed ({status})").into());
    }
    let binary = target.join("release/goloo");
    let content = fs::read(&binary)?;
    for (folder, _) in local {
        if contains(&content, folder.as_os_str().as_encoded_bytes()) {
            return Err(format!("{} contains the path {}", binary.display(), folder.display()).into());
        }
    }
    Ok(binary)
}

/// The user's flags, and one for each folder that gets another name; separated as cargo wants it.
fn rustc_flags(renamed: &[(&Path, &str)]) -> OsString {
    let given = env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<OsString> = given.split_whitespace().map(OsString::from).collect();
    for (folder, name) in renamed {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(folder);
        flag.push(format!("={name}"));
        flags.push(flag);
    }
    flags.join(std::ffi::OsStr::new("\x1f"))
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}
