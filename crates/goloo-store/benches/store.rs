//! The store's speed, each figure beside its floor from the same run: what the bare system calls take.
//!
//! `cargo bench -p goloo-store --features bench`
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use goloo_core::record::{Record, to_json};
use goloo_core::store::Store;
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot};
use pollster::block_on as run;
use tempfile::TempDir;

/// On the disk that holds the build: a folder in memory would make syncs free.
fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn write_sync_rename_sync(folder: &Path, bytes: &[u8]) {
    let temporary = folder.join("state.json.tmp");
    let mut file = File::create_new(&temporary).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::rename(&temporary, folder.join("state.json")).unwrap();
    File::open(folder).unwrap().sync_all().unwrap();
}

fn save(criterion: &mut Criterion) {
    let folder = folder();
    let store = DirStore::open(&folder.path().join("store"), Options::default());
    let devbox = name("devbox");
    let mut record = ready(&devbox);
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    let bytes = to_json(&record);
    let bare = folder.path().join("bare");
    fs::create_dir(&bare).unwrap();

    let mut group = criterion.benchmark_group("save");
    group.measurement_time(Duration::from_secs(6));
    group.bench_function("floor: write, sync, rename, sync", |bench| {
        bench.iter(|| write_sync_rename_sync(&bare, &bytes));
    });
    group.bench_function("goloo", |bench| bench.iter(|| run(lock.save(&mut record)).unwrap()));
    group.finish();
}

/// Lays records out as the store does, without its locks and syncs.
fn fill(root: &Path, count: usize) {
    for n in 0..count {
        let vm = name(&format!("vm-{n:05}"));
        let record = if n % 2 == 0 { ready(&vm) } else { in_aws(&vm) };
        let folder = root.join("active").join(vm.as_str());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("state.json"), to_json(&Record { serial: 3, ..record })).unwrap();
    }
}

fn open_read_close(root: &Path) -> usize {
    let entries = fs::read_dir(root.join("active")).unwrap();
    entries.map(|entry| fs::read(entry.unwrap().path().join("state.json")).unwrap().len()).sum()
}

fn list(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for count in [1, 1_000, 10_000] {
        let folder = folder();
        fill(folder.path(), count);
        let store = DirStore::open(folder.path(), Options::default());
        group.bench_function(BenchmarkId::new("floor: open, read, close", count), |bench| {
            bench.iter(|| black_box(open_read_close(folder.path())));
        });
        group.bench_function(BenchmarkId::new("goloo", count), |bench| {
            bench.iter(|| {
                let listing = run(store.list()).unwrap();
                assert_eq!(listing.entries.len(), count);
            });
        });
        group.bench_function(BenchmarkId::new("goloo, names alone", count), |bench| {
            bench.iter(|| assert_eq!(run(store.names()).unwrap().len(), count));
        });
    }
    group.finish();
}

criterion_group!(benches, save, list);
criterion_main!(benches);
