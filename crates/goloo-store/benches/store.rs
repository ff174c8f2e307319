//! The store's speed, each figure next to its floor from the same run: the time of the bare system calls.
//!
//! `cargo bench -p goloo-store --features bench`
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::TryStreamExt;
use goloo_model::record::{Record, to_json};
use goloo_model::store::Store;
use goloo_store::object::{self, Keys, Kind, ObjectSettings, ObjectStore};
use goloo_store::{DirStore, Options, SqliteStore};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::samples::{creating, in_aws, name, owner, ready, snapshot};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use pollster::block_on as run;
use rusqlite::{Connection, params};
use tempfile::TempDir;

/// A folder on the disk of the build directory: syncs in an in-memory file system would be free.
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

/// Publishes a folder of files atomically: syncs each file and the folder, renames it, and syncs the parent.
fn stage_sync_rename_sync(root: &Path, vm: &str, record: &[u8]) {
    let staged = root.join(".staged");
    fs::create_dir(&staged).unwrap();
    let files = snapshot().files;
    let all = files.iter().map(|(file, bytes)| (file.as_str(), bytes.as_slice()));
    for (file, bytes) in all.chain([("state.json", record)]) {
        let mut file = File::create_new(staged.join(file)).unwrap();
        file.write_all(bytes).unwrap();
        file.sync_all().unwrap();
    }
    File::open(&staged).unwrap().sync_all().unwrap();
    fs::rename(&staged, root.join(vm)).unwrap();
    File::open(root).unwrap().sync_all().unwrap();
}

fn claim(criterion: &mut Criterion) {
    let folder = folder();
    let store = DirStore::open(&folder.path().join("store"), Options::default());
    let bare = folder.path().join("bare");
    fs::create_dir(&bare).unwrap();
    let (mut names, mut bare_names) = (0.., 0..);

    let mut group = criterion.benchmark_group("claim");
    group.measurement_time(Duration::from_secs(6));
    group.bench_function("floor: files written, synced, renamed, synced", |bench| {
        bench.iter(|| {
            let vm = format!("vm-{}", bare_names.next().unwrap());
            stage_sync_rename_sync(&bare, &vm, &to_json(&creating(&name(&vm))));
        });
    });
    group.bench_function("goloo: lock, create, unlock", |bench| {
        bench.iter(|| {
            let vm = name(&format!("vm-{}", names.next().unwrap()));
            let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
            run(lock.create(&mut creating(&vm), &snapshot())).unwrap();
        });
    });
    group.finish();
}

/// Writes records in the layout of the store, without its locks and syncs.
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

/// A bare database, configured as SQLite's own manual recommends for the same guarantees.
fn bare_sqlite(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL;
             CREATE TABLE vms (name TEXT PRIMARY KEY, record TEXT);
             CREATE TABLE files (vm TEXT, file TEXT, content BLOB, PRIMARY KEY (vm, file)) WITHOUT ROWID;",
        )
        .unwrap();
    connection
}

fn bare_put(connection: &Connection, name: &str, record: &str) {
    let statement =
        "INSERT INTO vms VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET record = excluded.record";
    connection.execute(statement, params![name, record]).unwrap();
}

fn sqlite_save(criterion: &mut Criterion) {
    let folder = folder();
    let store = SqliteStore::open(&folder.path().join("goloo.db"), Options::default());
    let devbox = name("devbox");
    let mut record = ready(&devbox);
    let mut lock = run(store.lock(&devbox, &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    let mut bare_record = record.clone();
    let bare = bare_sqlite(&folder.path().join("bare.db"));

    let mut group = criterion.benchmark_group("sqlite save");
    group.measurement_time(Duration::from_secs(6));
    group.bench_function("floor: one row replaced", |bench| {
        bench.iter(|| {
            // SQLite writes nothing if nothing has changed.
            bare_record.serial += 1;
            bare_put(&bare, "devbox", &String::from_utf8(to_json(&bare_record)).unwrap());
        });
    });
    group.bench_function("goloo", |bench| bench.iter(|| run(lock.save(&mut record)).unwrap()));
    group.finish();
}

fn sqlite_claim(criterion: &mut Criterion) {
    let folder = folder();
    let store = SqliteStore::open(&folder.path().join("goloo.db"), Options::default());
    let mut bare = bare_sqlite(&folder.path().join("bare.db"));
    let (mut names, mut bare_names) = (0.., 0..);

    let mut group = criterion.benchmark_group("sqlite claim");
    group.measurement_time(Duration::from_secs(6));
    group.bench_function("floor: a record and its files in one transaction", |bench| {
        bench.iter(|| {
            let vm = format!("vm-{}", bare_names.next().unwrap());
            let text = String::from_utf8(to_json(&creating(&name(&vm)))).unwrap();
            let transaction = bare.transaction().unwrap();
            bare_put(&transaction, &vm, &text);
            for (file, content) in &snapshot().files {
                let statement = "INSERT INTO files VALUES (?1, ?2, ?3)";
                transaction.execute(statement, params![vm, file, content]).unwrap();
            }
            transaction.commit().unwrap();
        });
    });
    group.bench_function("goloo: lock, create, unlock", |bench| {
        bench.iter(|| {
            let vm = name(&format!("vm-{}", names.next().unwrap()));
            let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
            run(lock.create(&mut creating(&vm), &snapshot())).unwrap();
        });
    });
    group.finish();
}

fn sqlite_list(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sqlite list");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for count in [1, 1_000, 10_000] {
        let folder = folder();
        let file = folder.path().join("goloo.db");
        let store = SqliteStore::open(&file, Options::default());
        run(store.set_moved(None, None)).unwrap();
        let mut connection = Connection::open(&file).unwrap();
        let transaction = connection.transaction().unwrap();
        for n in 0..count {
            let vm = name(&format!("vm-{n:05}"));
            let record = if n % 2 == 0 { ready(&vm) } else { in_aws(&vm) };
            let text = String::from_utf8(to_json(&Record { serial: 3, ..record })).unwrap();
            let statement = "INSERT INTO vms (name, record) VALUES (?1, ?2)";
            transaction.execute(statement, params![vm.as_str(), text]).unwrap();
        }
        transaction.commit().unwrap();
        group.bench_function(BenchmarkId::new("floor: every record read", count), |bench| {
            bench.iter(|| {
                let mut statement = connection.prepare("SELECT name, record FROM vms ORDER BY name").unwrap();
                let rows = statement.query_map([], |row| Ok(row.get_ref(1)?.as_bytes()?.len())).unwrap();
                black_box(rows.map(Result::unwrap).sum::<usize>())
            });
        });
        group.bench_function(BenchmarkId::new("goloo", count), |bench| {
            bench.iter(|| assert_eq!(run(store.list()).unwrap().entries.len(), count));
        });
    }
    group.finish();
}

const BUCKET: &str = "team";

/// A bucket on an emulator, and a store in it. The floor includes the emulator's time.
fn bucket() -> (AwsEmulator, Arc<dyn object_store::ObjectStore>, ObjectStore) {
    let s3 = AwsEmulator::ministack();
    s3.rest("s3", "PUT", &format!("/{BUCKET}"), "");
    let settings = ObjectSettings {
        kind: Kind::S3,
        bucket: BUCKET.into(),
        prefix: "goloo".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(s3.endpoint().to_owned()),
        account: None,
        keys: Some(Keys { access_key_id: "key".into(), secret_access_key: "secret".into() }),
        lock_table: None,
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
    let mut bare_count = 0;
    group.bench_function("floor: PUT where nothing is", |bench| {
        bench.iter(|| {
            bare_count += 1;
            let key = Key::from(format!("bare/{bare_count}.json"));
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            runtime.block_on(bare.put_opts(&key, bytes.clone().into(), options)).unwrap()
        });
    });
    let mut count = 0;
    group.bench_function("claim: lock, create, unlock", |bench| {
        bench.iter(|| {
            count += 1;
            let vm = name(&format!("vm-{count}"));
            let mut lock = run(store.lock(&vm, &owner(1))).unwrap();
            run(lock.create(&mut ready(&vm), &snapshot())).unwrap();
        });
    });
    let active = Key::from("goloo/active");
    group.bench_function(BenchmarkId::new("floor: LIST, then every GET, 32 at once", count + 1), |bench| {
        bench.iter(|| {
            let gets = bare.list(Some(&active)).map_ok(|meta| {
                let bare = bare.clone();
                async move { bare.get(&meta.location).await?.bytes().await }
            });
            let all = gets.try_buffered(32).try_collect::<Vec<_>>();
            assert_eq!(runtime.block_on(all).unwrap().len(), count + 1);
        });
    });
    group.bench_function(BenchmarkId::new("list", count + 1), |bench| {
        bench.iter(|| assert_eq!(run(store.list()).unwrap().entries.len(), count + 1));
    });
    group.finish();
}

criterion_group!(benches, save, claim, list, sqlite_save, sqlite_claim, sqlite_list, object);
criterion_main!(benches);
