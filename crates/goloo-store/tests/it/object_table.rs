//! Stores without conditional writes, with a lock table in their place. The emulators receive no conditional
//! requests here, which is equivalent to emulators that don't support them.
#![cfg(feature = "lock-table")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::object_common::{BUCKET, PREFIX, S3, open_known, settings};
use async_trait::async_trait;
use goloo_model::hint::Hint;
use goloo_model::lock_table_error::LockTableError;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Store, StoreError, VmLock};
use goloo_store::lease::LeaseTiming;
use goloo_store::object::{LockTable, ObjectSettings, ObjectStore, Options, Pace};
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};
use goloo_testkit::samples::{creating, name, owner, snapshot, time};
use goloo_testkit::store_suite::{Subject, run};
use serde_json::{Value, json};

const TABLE: &str = "locks";

/// With these times a row lasts for 7 s, and the timeout of a write is 1 s.
fn short() -> Options {
    let pace = Pace {
        // Renewed after any test: a renewal would be one request more at any moment.
        lease: LeaseTiming { length: Duration::from_secs(2), renewal: Duration::from_secs(300) },
        answer: Duration::from_secs(2),
        patience: Duration::from_secs(20),
    };
    Options { pace, ..Options::default() }
}

/// The store at an endpoint, with the table at the same one.
fn open(endpoint: &str, prefix: &str, options: Options) -> ObjectStore {
    open_apart(endpoint, endpoint, prefix, options)
}

fn open_apart(endpoint: &str, tables: &str, prefix: &str, options: Options) -> ObjectStore {
    let lock_table = Some(LockTable { name: TABLE.to_owned(), endpoint: Some(tables.to_owned()) });
    let settings = ObjectSettings { prefix: prefix.to_owned(), lock_table, ..settings(endpoint) };
    open_known(&settings, false, options)
}

fn with_table(emulator: AwsEmulator) -> S3 {
    emulator.create_table(TABLE, "LockID");
    S3::new(emulator)
}

fn rows(emulator: &AwsEmulator) -> usize {
    let all = emulator.dynamodb("Scan", &json!({"TableName": TABLE, "ConsistentRead": true}));
    all["Items"].as_array().unwrap().len()
}

fn is_conditional(request: &Request) -> bool {
    let conditions = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
    conditions.iter().any(|condition| request.header(condition).is_some())
}

// The contract of all stores.

/// A store with its table; all requests to the store are inspected.
struct Tabled {
    s3: S3,
    proxy: FaultProxy,
    prefix: String,
    conditions: Arc<AtomicUsize>,
}

impl Tabled {
    fn beside(s3: S3) -> impl Fn(&str) -> Self {
        let proxy = FaultProxy::start(s3.emulator.endpoint());
        let conditions = Arc::new(AtomicUsize::new(0));
        let seen = conditions.clone();
        let look = move |request: &Request| {
            seen.fetch_add(usize::from(is_conditional(request)), Ordering::Relaxed);
        };
        proxy.fault(At::From(1), Fault::before(look));
        move |case| Self {
            s3: s3.beside(case),
            proxy: proxy.clone(),
            prefix: case.to_owned(),
            conditions: conditions.clone(),
        }
    }
}

impl Drop for Tabled {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.conditions.load(Ordering::Relaxed), 0, "requests carried conditions");
        }
    }
}

#[async_trait]
impl Subject for Tabled {
    fn handle(&self) -> Box<dyn Store> {
        let tables = self.s3.emulator.endpoint();
        Box::new(open_apart(self.proxy.endpoint(), tables, &self.prefix, Options::default()))
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        Subject::plant(&self.s3, name, json).await;
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        Subject::plant_archived(&self.s3, id, json).await;
    }

    fn rounds(&self, times: usize) -> usize {
        self.s3.rounds(times)
    }
}

goloo_testkit::store_suite!(
    emulator_ministack_with_a_table_keeps_every_rule,
    Tabled::beside(with_table(AwsEmulator::ministack()))
);

// The life cycle of one VM, and what must hold after it.

/// Retries a step, as a caller does who doesn't know its result.
macro_rules! thrice {
    ($step:expr) => {{
        let mut attempt = 1;
        loop {
            match $step {
                Err(_) if attempt < 3 => attempt += 1,
                other => break other?,
            }
        }
    }};
}

async fn lock_when_free(store: &dyn Store) -> Result<Box<dyn VmLock>, StoreError> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match store.lock(&name("devbox"), &owner(std::process::id())).await {
            Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
}

/// Lock, create, save, archive, release; continues what a killed process left behind.
async fn life(store: &dyn Store) -> Result<(), StoreError> {
    let mut lock = lock_when_free(store).await?;
    let mut record = match lock.load().await? {
        Some(loaded) => loaded.record,
        None => creating(&name("devbox")),
    };
    if record.serial == 0 {
        thrice!(lock.create(&mut record, &snapshot()).await);
    }
    record.stack = "saved".into();
    thrice!(lock.save(&mut record).await);
    record.phase = Phase::Destroyed;
    thrice!(lock.archive(&mut record, time("2025-02-01T00:00:00Z")).await);
    Ok(())
}

/// At most `lives` complete VMs are in the archive, and nothing else exists or is locked.
fn assert_over(store: &dyn Store, lives: usize, what: &str) {
    let archive = run(store.archive_list()).unwrap();
    assert!((1..=lives).contains(&archive.entries.len()) && archive.broken.is_empty(), "{what}: {archive:?}");
    for archived in &archive.entries {
        assert_eq!(archived.record.stack, "saved", "{what}: a save was lost");
        assert_eq!(run(store.archive_snapshot(&archived.id)).unwrap(), snapshot(), "{what}");
    }
    assert_eq!(run(store.names()).unwrap(), [""; 0], "{what}");
    assert!(run(lock_when_free(store)).is_ok(), "{what}: held for ever");
}

/// The number of requests of a life cycle without faults.
fn requests_of_a_life(s3: &S3) -> usize {
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    run(life(&open(proxy.endpoint(), "whole", short()))).unwrap();
    assert_eq!(rows(&s3.emulator), 0, "rows are given back");
    let of_table = proxy.actions().iter().filter(|action| *action == "PutItem").count();
    assert!(of_table > 5, "a life writes through the table");
    proxy.requests().len()
}

/// Runs all jobs concurrently, since many of them only wait.
fn at_once<J: Sync>(jobs: &[J], work: impl Fn(&J) + Sync) {
    const AT_ONCE: usize = 24;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(job);
                }
            });
        }
    });
}

#[test]
fn emulator_no_update_is_lost_by_a_fault_at_any_request_of_a_lifecycle() {
    let s3 = with_table(AwsEmulator::ministack());
    let requests = requests_of_a_life(&s3);
    let faults = [Fault::CutBefore, Fault::ReplyLost, Fault::Status500];
    let jobs: Vec<_> =
        faults.iter().flat_map(|fault| (1..=requests).map(move |at| (fault.clone(), at))).collect();
    at_once(&jobs, |(fault, at)| {
        let what = format!("{fault:?} at {at}");
        let prefix = format!("{fault:?}-{at}");
        let proxy = FaultProxy::start(s3.emulator.endpoint());
        proxy.fault(At::Request(*at), fault.clone());
        run(life(&open(proxy.endpoint(), &prefix, short())))
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(proxy.struck(), 1, "{what}");
        assert!(!proxy.requests().iter().any(is_conditional), "{what}: a condition");
        assert_over(&open(s3.emulator.endpoint(), &prefix, short()), 1, &what);
    });
}

// Writes that arrive when nobody waits for them any more.

fn puts(proxy: &FaultProxy) -> usize {
    proxy.requests().iter().filter(|request| request.method == "PUT").count()
}

/// Two proxies: the first injects faults, the second records what got through it.
struct Line {
    front: FaultProxy,
    back: FaultProxy,
}

impl Line {
    fn new(s3: &S3) -> Self {
        let back = FaultProxy::start(s3.emulator.endpoint());
        Self { front: FaultProxy::start(back.endpoint()), back }
    }

    /// Delays the `n`-th write of the VM's record by this time.
    fn delays(&self, n: usize, time: Duration) {
        self.front.fault(At::Action("PUT /team/goloo/active/devbox.json", n), Fault::Stall(time));
    }

    fn wait_for_late_writes(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while puts(&self.back) < puts(&self.front) {
            assert!(Instant::now() < end, "a write never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn stored(store: &dyn Store) -> Record {
    run(store.load(&name("devbox"))).unwrap().unwrap().record
}

#[test]
fn emulator_a_late_write_of_the_same_owner_does_not_undo_a_later_one() {
    let s3 = with_table(AwsEmulator::ministack());
    let line = Line::new(&s3);
    let store = open(line.front.endpoint(), PREFIX, short());
    // The lock, the create, and then the save that is delayed.
    line.delays(3, Duration::from_millis(2500));
    let mut lock = run(lock_when_free(&store)).unwrap();
    let mut record = creating(&name("devbox"));
    run(lock.create(&mut record, &snapshot())).unwrap();
    let start = Instant::now();
    record.stack = "first".into();
    run(lock.save(&mut record)).unwrap();
    assert!(start.elapsed() < Duration::from_millis(2400), "the same bytes needn't wait for themselves");
    record.stack = "second".into();
    run(lock.save(&mut record)).unwrap();
    line.wait_for_late_writes();
    assert_eq!(stored(&store), record);
}

#[test]
fn emulator_a_late_write_of_a_former_owner_does_not_undo_that_of_the_next() {
    let s3 = with_table(AwsEmulator::ministack());
    let line = Line::new(&s3);
    let pace = Pace { patience: Duration::from_secs(4), ..short().pace };
    let store = open(line.front.endpoint(), PREFIX, Options { pace, ..short() });
    let mut lock = run(lock_when_free(&store)).unwrap();
    let mut record = creating(&name("devbox"));
    run(lock.create(&mut record, &snapshot())).unwrap();
    // Longer than the lease, and the last request of this holder that gets through.
    line.delays(3, Duration::from_millis(3500));
    let requests = line.front.requests().len();
    line.front.fault(At::From(requests + 5), Fault::CutBefore);
    record.stack = "lost".into();
    let lost = std::thread::spawn(move || run(lock.save(&mut record)).unwrap_err());
    let theirs = open(s3.emulator.endpoint(), PREFIX, short());
    let mut lock = run(lock_when_free(&theirs)).unwrap();
    let mut record = run(lock.load()).unwrap().unwrap().record;
    record.stack = "theirs".into();
    run(lock.save(&mut record)).unwrap();
    line.wait_for_late_writes();
    assert_eq!(stored(&theirs), record);
    lost.join().unwrap();
}

// Errors of the table.

fn refusal(code: &str, message: &str) -> Fault {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message});
    Fault::Refused(Reply { status: 400, kind: "application/x-amz-json-1.0", body: body.to_string() })
}

fn refused(store: &ObjectStore) -> StoreError {
    run(store.lock(&name("devbox"), &owner(1))).map(drop).unwrap_err()
}

/// The table's error, and what to do about it.
fn of_table(error: StoreError) -> (LockTableError, Hint) {
    let StoreError::LockTable { source, .. } = error else { panic!("{error:?}") };
    let hint = source.hint();
    (source, hint)
}

#[test]
fn emulator_a_table_that_doesn_t_serve_is_said_at_once_with_a_hint() {
    let s3 = S3::ministack();
    let start = Instant::now();
    let store = open(s3.emulator.endpoint(), PREFIX, short());
    let (error, hint) = of_table(refused(&store));
    assert_eq!(error.to_string(), "there is no DynamoDB table \"locks\" in us-east-1");
    assert!(
        hint.debug_text().starts_with("aws dynamodb create-table --region us-east-1 --table-name locks ")
    );
    s3.emulator.create_table(TABLE, "Id");
    let (error, _) = of_table(refused(&store));
    assert!(matches!(error, LockTableError::Key(_)), "{error:?}");

    let proxy = FaultProxy::start(s3.emulator.endpoint());
    let store = open(proxy.endpoint(), PREFIX, short());
    proxy.fault(At::Each("GetItem"), refusal("AccessDeniedException", "not authorized"));
    let StoreError::Denied { place, action, .. } = refused(&store) else { panic!("not denied") };
    assert_eq!(place, "the DynamoDB table \"locks\" in us-east-1");
    assert_eq!(action, "lock a record (dynamodb:GetItem)");
    proxy.reset();
    proxy.fault(At::Each("GetItem"), Fault::ExpiredToken);
    assert!(matches!(refused(&store), StoreError::Denied { .. }));
    proxy.reset();
    let html = Reply { status: 405, kind: "text/html", body: "<html>".to_owned() };
    proxy.fault(At::Each("GetItem"), Fault::Refused(html));
    let (error, hint) = of_table(refused(&store));
    assert!(matches!(error, LockTableError::Odd { status: 405, .. }), "{error:?}");
    assert!(hint.debug_text().contains("AWS_ENDPOINT_URL_DYNAMODB"));
    assert!(start.elapsed() < short().pace.patience, "asked again and again");
}

#[test]
fn emulator_an_unresponsive_lock_table_is_unreachable() {
    let s3 = S3::ministack();
    let lock_table =
        Some(LockTable { name: TABLE.to_owned(), endpoint: Some("http://127.0.0.1:1".to_owned()) });
    let settings = ObjectSettings { lock_table, ..settings(s3.emulator.endpoint()) };
    let store = ObjectStore::open(settings, short()).unwrap();
    let start = Instant::now();
    let StoreError::Unreachable { place, .. } = refused(&store) else { panic!("reachable") };
    assert!(start.elapsed() < short().pace.patience / 2, "waited for as if it were slow");
    assert_eq!(place, "the DynamoDB table \"locks\" in us-east-1 at http://127.0.0.1:1");
}

#[test]
fn emulator_a_throttled_lock_table_is_retried() {
    let s3 = with_table(AwsEmulator::ministack());
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    for n in [1, 2, 4] {
        proxy.fault(At::Action("PutItem", n), Fault::Throttled);
    }
    proxy.fault(At::Action("DeleteItem", 2), Fault::Throttled);
    run(life(&open(proxy.endpoint(), PREFIX, short()))).unwrap();
    assert_eq!(proxy.struck(), 4);
    assert_over(&open(s3.emulator.endpoint(), PREFIX, short()), 1, "throttled");
}

#[test]
fn emulator_a_foreign_lock_row_is_respected_until_it_expires() {
    let s3 = with_table(AwsEmulator::ministack());
    let store = open(s3.emulator.endpoint(), PREFIX, short());
    let now = || goloo_model::time::Timestamp::now().unix();
    let key = format!("{BUCKET}/{PREFIX}/active/devbox.json");
    let plant = |rest: Value| {
        let mut row = json!({"LockID": {"S": key}});
        row.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        s3.emulator.dynamodb("PutItem", &json!({"TableName": TABLE, "Item": row}));
    };
    plant(json!({"Info": {"S": "of Terraform's"}}));
    let (error, hint) = of_table(refused(&store));
    assert!(matches!(error, LockTableError::Foreign { .. }), "{error:?}");
    assert!(
        hint.debug_text().contains("aws dynamodb delete-item") && hint.debug_text().contains(&key),
        "{hint:?}"
    );

    plant(json!({"Holder": {"S": "another"}, "Ends": {"N": (now() + 600).to_string()}}));
    let patience = Duration::from_secs(2);
    let impatient = Options { pace: Pace { patience, ..short().pace }, ..short() };
    let (error, _) = of_table(refused(&open(s3.emulator.endpoint(), PREFIX, impatient)));
    assert!(matches!(&error, LockTableError::Busy { seconds: 590..=600, .. }), "{error:?}");

    let end = now() + 2;
    plant(json!({"Holder": {"S": "dead"}, "Ends": {"N": end.to_string()}}));
    drop(run(store.lock(&name("devbox"), &owner(1))).unwrap());
    assert!(now() > end, "a living row was taken");
    assert_eq!(rows(&s3.emulator), 0);
}

// Processes.

const PART: &str = "GOLOO_TEST_PART";
const ENDPOINT: &str = "GOLOO_TEST_ENDPOINT";
const FOLDER: &str = "GOLOO_TEST_PREFIX";
const WRITERS: usize = 4;
const CHANGES: usize = 4;

/// Plays one role and reports the result; run as a regular test, without a role, it does nothing.
#[test]
fn one_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let endpoint = std::env::var(ENDPOINT).unwrap();
    let folder = std::env::var(FOLDER).unwrap();
    match part.as_str() {
        "count" => count(&endpoint, &folder),
        _ => run(life(&open(&endpoint, &folder, short()))).unwrap(),
    }
    println!("@done");
}

fn start(part: &str, endpoint: &str, prefix: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "object_table::one_process", "--nocapture"])
        .env(PART, part)
        .env(ENDPOINT, endpoint)
        .env(FOLDER, prefix)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Whether the process completed.
fn is_done(mut child: Child) -> bool {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let done = lines.map_while(Result::ok).any(|line| line.ends_with("@done"));
    child.wait().unwrap();
    done
}

/// Increments a count in the record, each writer its share.
fn count(endpoint: &str, prefix: &str) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let store = open(endpoint, prefix, short());
                let writer = format!("{}-{writer}", std::process::id());
                for change in 0..CHANGES {
                    while !raise(&store, &writer, &change.to_string()) {}
                }
            });
        }
    });
}

/// Increments the count, unless this change was made already; `false` if that is unknown.
fn raise(store: &dyn Store, writer: &str, change: &str) -> bool {
    let mut lock = run(lock_when_free(store)).unwrap();
    let mut record = run(lock.load()).unwrap().unwrap().record;
    if record.tags.get(writer).map(String::as_str) == Some(change) {
        return true;
    }
    let count = record.tags.get("count").map_or(0, |count| count.parse::<usize>().unwrap());
    record.tags.insert("count".to_owned(), (count + 1).to_string());
    record.tags.insert(writer.to_owned(), change.to_owned());
    run(lock.save(&mut record)).is_ok()
}

#[test]
fn emulator_two_processes_lose_no_update_without_conditions() {
    let s3 = with_table(AwsEmulator::ministack());
    let store = open(s3.emulator.endpoint(), PREFIX, short());
    run(run(lock_when_free(&store)).unwrap().create(&mut creating(&name("devbox")), &snapshot())).unwrap();
    let proxy = FaultProxy::start(s3.emulator.endpoint());
    for at in 0..100 {
        let fault = if at % 2 == 0 { Fault::ReplyLost } else { Fault::Throttled };
        proxy.fault(At::Request(20 + at * 41), fault);
    }
    // Gives others time between a comparison and its write.
    proxy.fault(At::Each("PUT /team/goloo/active/devbox.json"), Fault::Stall(Duration::from_millis(80)));
    let people = [(); 2].map(|()| start("count", proxy.endpoint(), PREFIX));
    assert!(people.map(is_done).iter().all(|done| *done));
    assert!(proxy.struck() > 10, "only {} faults struck", proxy.struck());
    assert!(!proxy.requests().iter().any(is_conditional), "a condition");
    assert_eq!(stored(&store).tags["count"], (2 * WRITERS * CHANGES).to_string());
    assert_eq!(run(store.locks()).unwrap(), []);
}

fn kill(pid: u32) {
    Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
}

#[test]
fn emulator_the_next_process_continues_after_a_kill_at_any_request() {
    let s3 = with_table(AwsEmulator::ministack());
    let requests = requests_of_a_life(&s3);
    let jobs: Vec<_> =
        [false, true].iter().flat_map(|done| (1..=requests).map(move |at| (*done, at))).collect();
    at_once(&jobs, |(done, at)| {
        let what = format!("killed at {at}, which {}", if *done { "was done" } else { "never came" });
        let prefix = format!("killed-{at}-{done}");
        let proxy = FaultProxy::start(s3.emulator.endpoint());
        let pid = Arc::new(OnceLock::new());
        let (done, whom) = (*done, pid.clone());
        let strike = move |_: &Request| {
            kill(*whom.wait());
            if !done {
                loop {
                    std::thread::park();
                }
            }
        };
        proxy.fault(At::Request(*at), if done { Fault::after(strike) } else { Fault::before(strike) });
        let child = start("live", proxy.endpoint(), &prefix);
        pid.set(child.id()).unwrap();
        assert!(!is_done(child) || *at + 1 >= requests, "{what}: it came to its end");
        assert!(!proxy.requests().iter().any(is_conditional), "{what}: a condition");
        let store = open(s3.emulator.endpoint(), &prefix, short());
        run(life(&store)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        // The killed process may have completed its life cycle, and the next one another.
        assert_over(&store, 2, &what);
    });
}
