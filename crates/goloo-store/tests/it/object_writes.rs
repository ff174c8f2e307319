//! Services that don't honor conditional writes, and how a store handles them: nothing is written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::object_common::{PREFIX, Shifted, fast, known};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use goloo_model::store::{Store, StoreError};
use goloo_store::object::{Access, ConditionalWrites, ObjectStore, Options};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore as Objects, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};

/// A defect of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    IgnoresAll,
    IgnoresCreate,
    IgnoresUpdate,
    /// Compares first and writes a moment later.
    NotAtomic,
    /// Reports that a condition failed, but writes anyway.
    WritesAnyway,
    /// The same, for large objects only.
    LosersWrite,
    /// Refuses writes whose condition is met.
    RefusesUpdate,
    /// Returns 200 but stores nothing.
    Forgets,
    HasNone,
    /// Returns half of an object to its first reader, and all of it later.
    ShowsHalves,
    /// Lets another claim replace each claim of a lock.
    TwoClaims,
}

/// An in-memory bucket with a defect, which can be enabled later.
#[derive(Debug)]
struct Flawed {
    objects: InMemory,
    flaw: Flaw,
    on: AtomicBool,
}

impl Flawed {
    fn new(flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { objects: InMemory::new(), flaw, on: AtomicBool::new(true) })
    }

    fn later(flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { objects: InMemory::new(), flaw, on: AtomicBool::new(false) })
    }

    fn flaw(&self) -> Flaw {
        if self.on.load(Ordering::Relaxed) { self.flaw } else { Flaw::None }
    }

    fn keys(&self) -> Vec<String> {
        let listed = run(self.objects.list(None).collect::<Vec<_>>());
        listed.into_iter().map(|meta| meta.unwrap().location.to_string()).collect()
    }

    /// The stored results of earlier checks.
    fn results(&self) -> String {
        let key = Path::from("goloo/write-check.json");
        let stored = run(async { self.objects.get(&key).await?.bytes().await }).unwrap();
        String::from_utf8_lossy(&stored).into_owned()
    }

    async fn is_met(&self, key: &Path, mode: &PutMode) -> bool {
        let stored = self.objects.head(key).await.ok();
        match mode {
            PutMode::Overwrite => true,
            PutMode::Create => stored.is_none(),
            PutMode::Update(version) => stored.is_some_and(|stored| stored.e_tag == version.e_tag),
        }
    }

    async fn overwrite(&self, key: &Path, bytes: PutPayload) -> Result<PutResult> {
        self.objects.put_opts(key, bytes, PutOptions::default()).await
    }
}

impl fmt::Display for Flawed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl Objects for Flawed {
    async fn put_opts(&self, key: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        let refused = || Error::Precondition { path: key.to_string(), source: "412".into() };
        let (create, update) = (options.mode == PutMode::Create, matches!(options.mode, PutMode::Update(_)));
        match self.flaw() {
            Flaw::IgnoresAll => self.overwrite(key, bytes).await,
            Flaw::IgnoresCreate if create => self.overwrite(key, bytes).await,
            Flaw::IgnoresUpdate if update => self.overwrite(key, bytes).await,
            Flaw::NotAtomic => {
                let met = self.is_met(key, &options.mode).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                if met { self.overwrite(key, bytes).await } else { Err(refused()) }
            }
            Flaw::LosersWrite if bytes.content_length() < 1000 => {
                self.objects.put_opts(key, bytes, options).await
            }
            Flaw::WritesAnyway | Flaw::LosersWrite => {
                let met = self.is_met(key, &options.mode).await;
                let put = self.overwrite(key, bytes).await;
                if met { put } else { Err(refused()) }
            }
            Flaw::RefusesUpdate if update => Err(refused()),
            Flaw::Forgets if self.is_met(key, &options.mode).await => {
                Ok(PutResult { e_tag: Some("1".to_owned()), version: None, extensions: Default::default() })
            }
            Flaw::HasNone => {
                Err(Error::NotImplemented { operation: "put".to_owned(), implementer: "it".to_owned() })
            }
            Flaw::TwoClaims if key.as_ref().contains("/active/") => {
                let claim: Vec<u8> = bytes.iter().flatten().copied().collect();
                let put = self.objects.put_opts(key, bytes, options).await;
                let mut other: serde_json::Value = serde_json::from_slice(&claim).unwrap();
                other["write"] = "another".into();
                self.overwrite(key, other.to_string().into()).await.and(put)
            }
            _ => self.objects.put_opts(key, bytes, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.objects.get_opts(key, options).await?;
        let active = key.as_ref().contains("/active/");
        if self.flaw() == Flaw::ShowsHalves && active && self.on.swap(false, Ordering::Relaxed) {
            let (meta, range, extensions) = (got.meta.clone(), got.range.clone(), got.extensions.clone());
            let half = got.bytes().await?.slice(..usize::try_from(meta.size / 2).unwrap());
            let payload = GetResultPayload::Stream(futures_util::stream::once(async { Ok(half) }).boxed());
            got = GetResult { payload, meta, range, attributes: Attributes::new(), extensions };
        }
        Ok(got)
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

fn open_as(objects: Arc<dyn Objects>, service: &str, options: Options) -> ObjectStore {
    let writes = ConditionalWrites::Unknown { lock_table: true };
    let access = Access { service: service.to_owned(), writes, ..known(objects) };
    ObjectStore::with_access(access, "s3://team/goloo?endpoint=x", PREFIX, options).unwrap()
}

fn open(objects: &Arc<Flawed>) -> ObjectStore {
    open_as(objects.clone(), "https://s3.example.com", fast())
}

fn refusal(result: Result<(), StoreError>, what: &str) -> String {
    match result {
        Err(StoreError::UnsafeWrites { seen, lock_table: true, .. }) => seen,
        other => panic!("{what}: {other:?}"),
    }
}

type Result<T, E = Error> = std::result::Result<T, E>;

#[test]
fn a_service_without_working_conditional_writes_is_refused_before_any_write() {
    for (flaw, said) in [
        (Flaw::IgnoresAll, "ignores If-None-Match"),
        (Flaw::IgnoresCreate, "ignores If-None-Match"),
        (Flaw::IgnoresUpdate, "ignores If-Match"),
        (Flaw::NotAtomic, "of 8 conflicting writes"),
        (Flaw::WritesAnyway, "ignores If-None-Match"),
        (Flaw::RefusesUpdate, "refused to replace"),
        (Flaw::Forgets, "ignores If-None-Match"),
        (Flaw::LosersWrite, "lost afterwards"),
        (Flaw::HasNone, "doesn't support conditional writes"),
    ] {
        let objects = Flawed::new(flaw);
        let devbox = name("devbox");
        let archived = goloo_model::name::ArchiveId::parse("gone-20250115T103000Z-3f9c").unwrap();
        let writes: [(&str, Result<(), StoreError>); 4] = [
            ("lock", run(open(&objects).lock(&devbox, &owner(1))).map(drop)),
            ("unlock", run(open(&objects).break_lock(&devbox)).map(drop)),
            ("delete", run(open(&objects).archive_delete(&archived, &owner(1)))),
            ("check", run(open(&objects).require_safe_writes())),
        ];
        for (what, result) in writes {
            let seen = refusal(result, &format!("{flaw:?}, {what}"));
            assert!(seen.contains(said), "{flaw:?}, {what}: {seen}");
        }
        assert_eq!(objects.keys(), [""; 0], "{flaw:?} left something");
        let findings = run(open(&objects).examine());
        assert!(
            findings.iter().any(|found| !found.is_ok() && found.hint.debug_text().contains("lockTable")),
            "{findings:?}"
        );
    }
}

#[test]
fn a_service_that_passed_is_checked_again_only_at_another_endpoint() {
    let objects = Flawed::new(Flaw::None);
    run(open(&objects).lock(&name("devbox"), &owner(1))).unwrap();
    let keys = ["goloo/active/devbox.json", "goloo/write-check.json"];
    assert_eq!(objects.keys(), keys, "the check left something");
    let first = objects.results();
    assert!(first.contains("https://s3.example.com"), "{first}");
    run(open(&objects).lock(&name("devbox"), &owner(1))).unwrap();
    assert_eq!(objects.results(), first, "it was checked again");
    let elsewhere = open_as(objects.clone(), "https://other.example.com", fast());
    run(elsewhere.lock(&name("web"), &owner(1))).unwrap();
    let both = objects.results();
    assert!(both.contains("https://s3.example.com") && both.contains("https://other.example.com"), "{both}");
}

#[test]
fn unreadable_check_results_are_replaced_and_old_ones_are_dropped() {
    let objects = Flawed::new(Flaw::None);
    let key = Path::from("goloo/write-check.json");
    for damage in ["", "{", "[]", r#"{"format": 2}"#] {
        run(objects.objects.put(&key, damage.into())).unwrap();
        run(open(&objects).require_safe_writes()).unwrap();
        assert!(objects.results().contains("s3.example.com"), "{damage}");
    }
    for number in 0..20 {
        run(open_as(objects.clone(), &format!("https://{number}.example"), fast()).require_safe_writes())
            .unwrap();
    }
    let stored: serde_json::Value = serde_json::from_str(&objects.results()).unwrap();
    assert_eq!(stored["passed"].as_array().unwrap().len(), 16);
    assert_eq!(stored["passed"][15]["service"], "https://19.example");
}

#[test]
fn concurrent_checks_all_pass() {
    let objects = Flawed::new(Flaw::None);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let objects = objects.clone();
            scope.spawn(move || {
                let store = open(&objects);
                run(store.lock(&name(&format!("vm{writer}")), &owner(writer))).map(drop).unwrap();
            });
        }
    });
}

#[test]
fn a_replaced_lock_claim_is_detected_and_the_service_is_checked_again() {
    let objects = Flawed::later(Flaw::TwoClaims);
    run(open(&objects).require_safe_writes()).unwrap();
    assert!(objects.results().contains("s3.example.com"));
    objects.on.store(true, Ordering::Relaxed);
    let seen = refusal(run(open(&objects).lock(&name("devbox"), &owner(1))).map(drop), "lock");
    assert!(seen.contains("two claims of the lock of \"devbox\""), "{seen}");
    assert!(!objects.results().contains("s3.example.com"), "{}", objects.results());
    let stored = run(async { objects.objects.get(&"goloo/active/devbox.json".into()).await?.bytes().await });
    assert!(String::from_utf8_lossy(&stored.unwrap()).contains("another"), "the other claim was touched");
}

#[test]
fn a_lease_starts_at_the_last_heartbeat_when_objects_are_dated_too_early() {
    let objects = Arc::new(Shifted { ahead: -600, ..Shifted::default() });
    let open = || open_as(objects.clone(), "late", fast());
    let first = open();
    let mut lock = run(first.lock(&name("devbox"), &owner(1))).unwrap();
    run(lock.create(&mut creating(&name("devbox")), &snapshot())).unwrap();
    let refused = run(open().lock(&name("devbox"), &owner(2))).map(drop);
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    run(lock.load()).unwrap();
    let findings = run(open().examine());
    assert!(findings.iter().any(|found| found.what.contains("dates objects 60")), "{findings:?}");
}

#[test]
fn a_partially_written_record_is_read_again_and_a_broken_one_is_listed() {
    let objects = Flawed::later(Flaw::ShowsHalves);
    let store = open(&objects);
    let mut lock = run(store.lock(&name("devbox"), &owner(1))).unwrap();
    run(lock.create(&mut creating(&name("devbox")), &snapshot())).unwrap();
    objects.on.store(true, Ordering::Relaxed);
    assert!(run(store.load(&name("devbox"))).unwrap().is_some());
    assert!(!objects.on.load(Ordering::Relaxed), "nothing was cut");
    run(objects.objects.put(&"goloo/active/web.json".into(), "{".into())).unwrap();
    let broken = run(store.records()).unwrap().broken;
    assert_eq!(broken.iter().map(|broken| broken.name.as_str()).collect::<Vec<_>>(), ["web"]);
}
