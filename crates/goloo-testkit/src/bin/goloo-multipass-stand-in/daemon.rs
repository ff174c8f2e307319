//! The state of multipassd: a file, read and written as a whole under a lock. The daemon must continue regardless of
//! its clients, so its progress follows only from the file, the clock and the faults.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The image names `launch` accepts besides files and URLs.
pub const IMAGES: [&str; 7] = ["22.04", "jammy", "24.04", "noble", "26.04", "resolute", "lts"];

/// Longer than any test; ensures that a forgotten client doesn't stay forever.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// How long an instance is Starting, and then Unknown until its guest has a lease, in ms.
const STARTING: u64 = 5;
const WITHOUT_LEASE: u64 = 20;

/// How long a `stop` waits for the guest, in ms, unless overridden by the file `shutdown-limit`.
const SHUTDOWN_LIMIT: u64 = 300_000;

/// The daemon's folder.
pub struct Daemon {
    folder: PathBuf,
    /// On whose behalf this client acts: `goloo`, or someone else.
    by: String,
}

/// All instances; holds the lock.
pub struct World<'d> {
    daemon: &'d Daemon,
    pub instances: BTreeMap<String, Value>,
    _lock: File,
}

impl Daemon {
    pub fn from_env() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("GOLOO_STAND_IN_MULTIPASS")?);
        fs::create_dir_all(&folder).unwrap();
        Some(Self { folder, by: std::env::var("GOLOO_STAND_IN_BY").unwrap_or_else(|_| "goloo".to_owned()) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn faults(&self) -> String {
        self.read("faults")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    /// Whether the fault is active now; tests change faults while the daemon is working.
    pub fn fault(&self, fault: &str) -> bool {
        self.faults().lines().any(|line| line.trim() == fault)
    }

    /// Whether the process of this instance is halted: neither its kernel nor anything in it responds.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.fault(&format!("frozen {name}"))
    }

    pub fn append(&self, file: &str, line: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.folder.join(file)).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Takes the lock and advances every instance as far as the clock and the faults allow.
    pub fn world(&self) -> World<'_> {
        let path = self.folder.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let instances = match fs::read(self.folder.join("daemon.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => BTreeMap::new(),
        };
        let mut world = World { daemon: self, instances, _lock: lock };
        world.settle();
        world
    }

    // ---- the single thread that serves all requests ----

    /// Makes the thread wait for this guest to power off, whatever happens to the client that requested it.
    pub fn wait_for_power_off(&self, name: &str) -> u64 {
        let limit = self.read("shutdown-limit").trim().parse().unwrap_or(SHUTDOWN_LIMIT);
        self.write("busy", &format!("{} {name}", now_ms() + limit));
        limit
    }

    /// Makes the thread wait for a guest that never responds.
    pub fn wait_for_guest(&self, name: &str) {
        self.write("busy", &format!("{} {name}", u64::MAX));
    }

    fn write(&self, file: &str, text: &str) {
        let new = self.folder.join(format!("{file}.{}", std::process::id()));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.join(file)).unwrap();
    }

    /// Returns when the thread is idle. It is blocked as long as its guest ignores requests or is frozen.
    pub fn wait_until_free(&self) {
        let end = Instant::now() + LIFETIME;
        while self.is_busy() && Instant::now() < end {
            sleep(Duration::from_millis(2));
        }
    }

    fn is_busy(&self) -> bool {
        let busy = self.read("busy");
        let Some((until, name)) = busy.split_once(' ') else { return false };
        let is_held = self.fault("deaf") || self.is_frozen(name);
        is_held && now_ms() < until.parse().unwrap()
    }

    /// Simulates a crash of the daemon due to a defect; no test restarts it.
    pub fn die(&self, why: &str) {
        self.append("violations", &format!("the daemon died: {why}"));
        self.write("died", why);
    }

    pub fn is_dead(&self) -> bool {
        self.folder.join("died").exists()
    }
}

impl World<'_> {
    fn settle(&mut self) {
        let daemon = self.daemon;
        if daemon.fault("aborts") {
            self.instances.retain(|_, instance| instance["state"] != "preparing");
        }
        let mut taken: Vec<String> =
            self.instances.values().filter_map(|one| one["ip"].as_str().map(str::to_owned)).collect();
        for instance in self.instances.values_mut() {
            boot(daemon, instance);
            initialize(daemon, instance);
            if instance["state"] == "Running" && instance["ip"].is_null() && !daemon.fault("no-address") {
                let network = if daemon.fault("private-network") { "10.111.0" } else { "127.0.0" };
                let ip = (2..255).map(|n| format!("{network}.{n}")).find(|ip| !taken.contains(ip)).unwrap();
                taken.push(ip.clone());
                instance["ip"] = json!(ip);
            }
        }
        self.save();
    }

    pub fn save(&self) {
        let path = self.daemon.folder.join("daemon.json");
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(&self.instances).unwrap()).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// The state of an instance that has been created; in the trash it is `Deleted`.
    pub fn state(&self, name: &str) -> Option<String> {
        let instance = self.instances.get(name).filter(|one| one["state"] != "preparing")?;
        let state = if instance["deleted"] == true { &json!("Deleted") } else { &instance["state"] };
        state.as_str().map(str::to_owned)
    }

    pub fn is_preparing(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(|one| one["state"] == "preparing")
    }

    /// Whether the daemon is still waiting for what a launch began.
    pub fn is_launching(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(|one| one["launching"] == true)
    }

    /// Why the daemon stopped waiting for an instance; `None` if it didn't.
    pub fn failure(&self, name: &str) -> Option<&str> {
        self.instances.get(name)?["failure"].as_str()
    }

    pub fn launch(&mut self, name: &str, settings: Value) {
        let by = &self.daemon.by;
        self.daemon.append("ledger", &format!("launch {name} by {by}"));
        let mut instance = settings;
        instance["by"] = json!(by);
        instance["state"] = json!("preparing");
        instance["launching"] = json!(true);
        instance["mountsKnown"] = json!(false);
        instance["failure"] = Value::Null;
        instance["ip"] = Value::Null;
        instance["deleted"] = json!(false);
        instance["mounts"] = json!({});
        instance["snapshots"] = json!([]);
        self.instances.insert(name.to_owned(), instance);
        self.settle();
    }

    /// Creates a stopped copy of a stopped instance.
    pub fn copy(&mut self, source: &str, name: &str) {
        let settings = self.instances[source].clone();
        self.launch(name, settings);
        let copy = self.instances.get_mut(name).unwrap();
        copy["state"] = json!("Stopped");
        copy["launching"] = json!(false);
        copy["mountsKnown"] = json!(true);
        self.save();
    }

    /// Powers an instance on. If its launch is still waiting, the start waits for the launch to end and never
    /// completes.
    pub fn start(&mut self, name: &str) {
        let instance = self.instances.get_mut(name).unwrap();
        instance["stuck"] = instance["launching"].clone();
        instance["failure"] = Value::Null;
        begin(instance, "Starting");
        self.save();
        self.settle();
    }

    pub fn power_off(&mut self, name: &str, state: &str) {
        let instance = self.instances.get_mut(name).unwrap();
        instance["stuck"] = json!(false);
        instance["failure"] = Value::Null;
        begin(instance, state);
        self.save();
    }

    /// From now on the daemon has a mount table for the instance, which `restore` requires.
    pub fn know_mounts(&mut self, name: &str) {
        self.instances.get_mut(name).unwrap()["mountsKnown"] = json!(true);
        self.save();
    }

    /// Records that goloo changes an instance. If goloo neither created nor adopted it, this is a violation, which
    /// every test checks for at its end.
    pub fn touch(&self, what: &str, name: &str) {
        let Some(instance) = self.instances.get(name) else { return };
        self.daemon.append("ledger", &format!("{what} {name} by {}", self.daemon.by));
        let adopted = self.daemon.read("adopted");
        let foreign = instance["by"] != "goloo" && !adopted.lines().any(|line| line == name);
        if self.daemon.by == "goloo" && foreign {
            self.daemon.append("violations", &format!("{what} {name}, made by {}", instance["by"]));
        }
    }

    pub fn purge(&mut self, name: &str) {
        self.touch("purge", name);
        self.instances.remove(name);
        self.save();
    }
}

fn begin(instance: &mut Value, state: &str) {
    instance["state"] = json!(state);
    instance["since"] = json!(now_ms());
}

fn boot(daemon: &Daemon, instance: &mut Value) {
    let lasted = |instance: &Value, ms: u64| now_ms() >= instance["since"].as_u64().unwrap_or(0) + ms;
    if instance["state"] == "preparing" && !daemon.fault("prepares") {
        begin(instance, "Starting");
    }
    let is_held = daemon.fault("boots") || instance["stuck"] == true;
    if instance["state"] == "Starting" && !is_held && lasted(instance, STARTING) {
        begin(instance, "Unknown");
    }
    if instance["state"] != "Unknown" || !instance["failure"].is_null() {
        return;
    }
    for failure in ["no-ssh", "ends-while-starting"] {
        if daemon.fault(failure) {
            instance["failure"] = json!(failure);
            instance["launching"] = json!(false);
            return;
        }
    }
    if !daemon.fault("no-lease") && lasted(instance, WITHOUT_LEASE) {
        begin(instance, "Running");
    }
}

/// A launch waits until cloud-init is done or, if its instance was powered off in the meantime, until its timeout.
fn initialize(daemon: &Daemon, instance: &mut Value) {
    if instance["launching"] != true || daemon.fault("initializes") {
        return;
    }
    let is_running = instance["state"] == "Running";
    let is_off = instance["state"] == "Stopped" || instance["state"] == "Suspended";
    if is_running && !daemon.fault("never-initialized") {
        instance["mountsKnown"] = json!(true);
    } else if is_running || is_off || instance["stuck"] == true {
        instance["failure"] = json!("never-initialized");
    } else {
        return;
    }
    instance["launching"] = json!(false);
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    i64::try_from(now_ms() / 1000).unwrap()
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
