//! The store's speed, each figure beside its floor from the same run: what the bare system calls take.
//!
//! `cargo bench -p goloo-store --features bench`
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use goloo_core::record::{Record, to_json};
use goloo_core::store::Store;
use goloo_store::object::{self, Keys, Kind, ObjectSettings, ObjectStore};
use goloo_store::{DirStore, Options};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot};
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
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

const BUCKET: &str = "team";

/// A bucket on an emulator, and a store in it. What the emulator takes is in the floor too.
fn bucket() -> (AwsEmulator, Arc<dyn object_store::ObjectStore>, ObjectStore) {
    let s3 = AwsEmulator::ministack();
    s3.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    let settings = ObjectSettings {
        kind: Kind::S3,
        bucket: BUCKET.into(),
        prefix: "goloo".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(s3.endpoint().to_owned()),
        keys: Some(Keys { access_key_id: "key".into(), secret_access_key: "secret".into() }),
    };
    let access = tokio(settings.access()).unwrap();
    let store = ObjectStore::open(settings, object::Options::default()).unwrap();
    (s3, access.objects, store)
}

fn tokio<T>(future: impl Future<Output = T>) -> T {
    goloo_testkit::store_suite::run(future)
}

fn object(criterion: &mut Criterion) {
    let (_s3, bare, store) = bucket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let devbox = name("devbox");
    let mut record = ready(&devbox);
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    let (bytes, key) = (to_json(&record), Key::from("bare.json"));

    let mut group = criterion.benchmark_group("object");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    group.bench_function("floor: PUT", |bench| {
        bench.iter(|| runtime.block_on(bare.put(&key, bytes.clone().into())).unwrap());
    });
    group.bench_function("save", |bench| bench.iter(|| run(lock.save(&mut record)).unwrap()));
    group.bench_function("floor: GET", |bench| {
        bench.iter(|| runtime.block_on(async { bare.get(&key).await.unwrap().bytes().await.unwrap() }));
    });
    group.bench_function("load", |bench| bench.iter(|| run(store.load(&devbox)).unwrap().unwrap()));
    let mut count = 0;
    group.bench_function("claim: lock and create", |bench| {
        bench.iter(|| {
            count += 1;
            let vm = name(&format!("vm-{count}"));
            let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
            run(lock.create(&mut ready(&vm), &snapshot())).unwrap();
        });
    });
    group.bench_function(BenchmarkId::new("list", count + 1), |bench| {
        bench.iter(|| assert_eq!(run(store.list()).unwrap().entries.len(), count + 1));
    });
    group.finish();
}

criterion_group!(benches, save, list, object);
criterion_main!(benches);
