//! Fills a store with realistic records for measurements. The files are written in the store's layout,
//! without its locks and syncs, so that 10,000 take seconds.
//!
//! Usage: `fill_store ROOT N`

use std::fs;
use std::io;
use std::path::PathBuf;

use goloo_model::record::{Record, to_json};
use goloo_testkit::samples::{in_aws, name, ready};

fn main() -> io::Result<()> {
    let usage = "usage: fill_store ROOT N";
    let mut args = std::env::args_os().skip(1);
    let root = PathBuf::from(args.next().expect(usage));
    let count: usize = args.next().and_then(|n| n.to_str()?.parse().ok()).expect(usage);
    for n in 0..count {
        let vm = name(&format!("vm-{n:05}"));
        let record = if n % 2 == 0 { ready(&vm) } else { in_aws(&vm) };
        let folder = root.join("active").join(vm.as_str());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("state.json"), to_json(&Record { serial: 3, ..record }))?;
        fs::write(folder.join("config.json"), "{\"vm\": {\"image\": \"24.04\"}}\n")?;
    }
    Ok(())
}
