//! Buckets for testing the object store: in memory, and S3 on an emulator.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by tests that use a part each")]

pub mod acts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::store::Store;
use goloo_store::lease::LeaseTiming;
use goloo_store::object::{
    Access, Clock, ConditionalWrites, Keys, Kind, ObjectSettings, ObjectStore, Options, Pace,
};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fault_proxy::FaultProxy;
use goloo_testkit::s3_services::S3Service;
use goloo_testkit::store_suite::{Subject, run};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore as Objects,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::{Value, json};

pub const BUCKET: &str = "team";
pub const PREFIX: &str = "goloo";

/// Replaces a record's text in an object, as a careless manual edit would, and keeps everything else.
pub async fn plant(objects: &dyn Objects, key: &str, json: &[u8]) {
    let path = Path::from(format!("{PREFIX}/{key}.json"));
    let stored = match objects.get(&path).await {
        Ok(found) => serde_json::from_slice(&found.bytes().await.unwrap()).unwrap(),
        Err(object_store::Error::NotFound { .. }) => json!({"format": 1, "write": "by-hand", "epoch": 1}),
        Err(error) => panic!("{error}"),
    };
    let mut stored: Value = stored;
    if stored["vm"].is_null() {
        stored["vm"] = json!({});
    }
    stored["vm"]["record"] = std::str::from_utf8(json).unwrap().into();
    objects.put(&path, stored.to_string().into()).await.unwrap();
}

/// The clock of the in-memory store.
pub struct SystemClock {
    /// How far it is ahead of this host's clock, in seconds.
    pub ahead: i64,
}

impl Clock for SystemClock {
    fn now(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Some(i64::try_from(now).unwrap() + self.ahead)
    }
}

/// An in-memory bucket whose service has a different time, on a connection that may lose a reply.
#[derive(Debug, Default)]
pub struct Shifted {
    pub objects: InMemory,
    /// How far its clock is ahead of this host's, in seconds.
    pub ahead: i64,
    /// Whether the reply to the next write will be lost.
    pub loses_a_reply: AtomicBool,
}

impl fmt::Display for Shifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl Objects for Shifted {
    async fn put_opts(&self, key: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.objects.put_opts(key, bytes, options).await;
        if self.loses_a_reply.swap(false, Ordering::Relaxed) {
            return Err(object_store::Error::Generic { store: "memory", source: "the line was cut".into() });
        }
        put
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
        let shift = Duration::from_secs(self.ahead.unsigned_abs());
        let modified = got.meta.last_modified;
        got.meta.last_modified = if self.ahead < 0 { modified - shift } else { modified + shift };
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

/// A bucket whose service is known to honor conditional writes, with this host's clock.
pub fn known(objects: Arc<dyn Objects>) -> Access {
    let clock = Arc::new(SystemClock { ahead: 0 });
    let (service, writes) = ("memory".to_owned(), ConditionalWrites::Known);
    Access { objects, clock, conditional_delete: false, service, writes, table: None }
}

pub struct Memory(Arc<InMemory>);

impl Memory {
    pub fn new() -> Self {
        Self(Arc::new(InMemory::new()))
    }

    pub fn open(&self, options: Options) -> ObjectStore {
        let clock = Arc::new(SystemClock { ahead: 0 });
        let access = Access { clock, ..known(self.0.clone()) };
        ObjectStore::with_access(access, "memory://team/goloo", PREFIX, options).unwrap()
    }
}

impl Memory {
    /// Writes an object directly, bypassing the store.
    pub fn put(&self, key: &str, text: &'static str) {
        run(self.0.put(&Path::from(format!("{PREFIX}/{key}")), text.into())).unwrap();
    }
}

#[async_trait]
impl Subject for Memory {
    fn handle(&self) -> Box<dyn Store> {
        Box::new(self.open(Options::default()))
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        plant(&*self.0, &format!("active/{name}"), json).await;
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        plant(&*self.0, &format!("archive/{id}"), json).await;
    }
}

/// S3 on an emulator, with a bucket; each store is a folder in it.
pub struct S3 {
    pub emulator: Arc<AwsEmulator>,
    /// The endpoint of the store, which may be a proxy's.
    endpoint: String,
    prefix: String,
}

impl S3 {
    pub fn new(emulator: AwsEmulator) -> Self {
        emulator.rest("s3", "PUT", &format!("/{BUCKET}"), "");
        let endpoint = emulator.endpoint().to_owned();
        Self { emulator: Arc::new(emulator), endpoint, prefix: PREFIX.to_owned() }
    }

    pub fn ministack() -> Self {
        Self::new(AwsEmulator::ministack())
    }

    pub fn moto() -> Self {
        let mut s3 = Self::new(AwsEmulator::moto_single_threaded());
        // Its single thread blocks on every open connection; the proxy opens one only for a request.
        FaultProxy::start(&s3.endpoint).endpoint().clone_into(&mut s3.endpoint);
        s3
    }

    /// Another store in the same bucket.
    pub fn beside(&self, prefix: &str) -> Self {
        Self { emulator: self.emulator.clone(), endpoint: self.endpoint.clone(), prefix: prefix.to_owned() }
    }

    pub fn settings(&self) -> ObjectSettings {
        ObjectSettings { prefix: self.prefix.clone(), ..settings(&self.endpoint) }
    }

    pub fn open(&self, options: Options) -> ObjectStore {
        open_known(&self.settings(), false, options)
    }

    /// The same with deletions that are conditional on the ETag, as on AWS.
    pub fn open_with_deletes(&self, options: Options) -> ObjectStore {
        open_with_deletes_in(&self.endpoint, &self.prefix, options)
    }

    /// All objects of the store, read directly.
    fn all(&self) -> Vec<(String, Value)> {
        let path = format!("/{BUCKET}?list-type=2&prefix={}/", self.prefix);
        let listing = self.emulator.rest("s3", "GET", &path, "");
        let keys = listing.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0);
        let read = |key: &str| {
            serde_json::from_str(&self.emulator.rest("s3", "GET", &format!("/{BUCKET}/{key}"), ""))
        };
        keys.map(|key| (key.to_owned(), read(key).unwrap())).collect()
    }

    fn plant(&self, key: &str, json: &[u8]) {
        let path = format!("/{BUCKET}/{}/{key}.json", self.prefix);
        let mut stored = self
            .all()
            .into_iter()
            .find(|(known, _)| path.ends_with(known))
            .map_or_else(|| json!({"format": 1, "write": "by-hand", "epoch": 1}), |(_, value)| value);
        if stored["vm"].is_null() {
            stored["vm"] = json!({});
        }
        stored["vm"]["record"] = std::str::from_utf8(json).unwrap().into();
        self.emulator.rest("s3", "PUT", &path, &stored.to_string());
    }
}

#[async_trait]
impl Subject for S3 {
    fn handle(&self) -> Box<dyn Store> {
        Box::new(self.open(Options::default()))
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        self.plant(&format!("active/{name}"), json);
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        self.plant(&format!("archive/{id}"), json);
    }

    /// An emulator takes 10 ms for a call.
    fn rounds(&self, times: usize) -> usize {
        times / 4
    }
}

pub fn settings(endpoint: &str) -> ObjectSettings {
    ObjectSettings {
        location: format!("s3://{BUCKET}/{PREFIX}?endpoint={endpoint}"),
        virtual_host: false,
        kind: Kind::S3,
        bucket: BUCKET.into(),
        prefix: PREFIX.into(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.to_owned()),
        account: None,
        keys: Some(Keys { access_key_id: "AKIAIOSFODNN7EXAMPLE".into(), secret_access_key: "secret".into() }),
        lock_table: None,
    }
}

/// The settings for a server that isn't an AWS emulator.
pub fn settings_of(service: &S3Service) -> ObjectSettings {
    let credentials = service.credentials();
    let keys = Keys {
        access_key_id: credentials.access_key_id.clone(),
        secret_access_key: credentials.secret_access_key.clone(),
    };
    ObjectSettings { keys: Some(keys), ..settings(service.endpoint()) }
}

/// The store at an endpoint, which may be an emulator's or a proxy's.
pub fn open_at(endpoint: &str, options: Options) -> ObjectStore {
    open_known(&settings(endpoint), false, options)
}

/// The same with deletions that are conditional on the ETag, as on AWS.
pub fn open_with_deletes_at(endpoint: &str, options: Options) -> ObjectStore {
    open_with_deletes_in(endpoint, PREFIX, options)
}

/// The same in a folder of the bucket.
pub fn open_with_deletes_in(endpoint: &str, prefix: &str, options: Options) -> ObjectStore {
    open_known(&ObjectSettings { prefix: prefix.to_owned(), ..settings(endpoint) }, true, options)
}

/// A store whose service is known to honor conditional writes, so that tests don't wait for the write check.
pub fn open_known(settings: &ObjectSettings, conditional_delete: bool, options: Options) -> ObjectStore {
    // On a separate thread: the suite opens stores from within its runtime.
    let open = || run(goloo_store::object::access(settings, options.pace.answer)).unwrap();
    let access = std::thread::scope(|scope| scope.spawn(open).join().unwrap());
    let access = Access { conditional_delete, writes: ConditionalWrites::Known, ..access };
    ObjectStore::with_access(access, &settings.location, &settings.prefix, options).unwrap()
}

/// Runs `act` for each, a few concurrently: they mostly wait.
pub fn side_by_side<T: Sync>(all: &[T], act: impl Fn(&T) + Sync) {
    let (next, act) = (&AtomicUsize::new(0), &act);
    let work = move || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
}

/// With more, the emulator is so slow that responses are late without any fault.
const AT_ONCE: usize = 6;

/// A lease as in [`fast`], of whose holder no heartbeat comes in time.
pub fn rarely_renewed() -> LeaseTiming {
    LeaseTiming { renewal: Duration::from_secs(60), ..fast().pace.lease }
}

/// Short times, so that a lease expires during a test.
pub fn fast() -> Options {
    Options {
        pace: Pace {
            lease: LeaseTiming { length: Duration::from_secs(2), renewal: Duration::from_millis(500) },
            answer: Duration::from_millis(1500),
            patience: Duration::from_secs(6),
        },
        ..Options::default()
    }
}
