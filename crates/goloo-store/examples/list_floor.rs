//! The floor of `goloo list`: opens, reads and closes every `state.json` of a store sequentially,
//! without processing it.
//!
//! Usage: `list_floor ROOT`

use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let root = std::env::args_os().nth(1).expect("usage: list_floor ROOT");
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(PathBuf::from(root).join("active"))? {
        bytes += fs::read(entry?.path().join("state.json"))?.len();
        files += 1;
    }
    println!("{files} files, {bytes} bytes");
    Ok(())
}
