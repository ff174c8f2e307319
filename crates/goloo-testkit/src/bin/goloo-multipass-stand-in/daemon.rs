//! What multipassd would hold: a file, read and written whole under a lock. The daemon goes on whatever
//! becomes of its clients, so what it is at follows from the file and from the faults alone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The names that `launch` knows beside files and URLs.
pub const IMAGES: [&str; 7] = ["22.04", "jammy", "24.04", "noble", "26.04", "resolute", "lts"];

/// The daemon's folder.
pub struct Daemon {
    folder: PathBuf,
    /// For whom this client speaks: `goloo`, or someone else.
    by: String,
}

/// All instances, held as long as the lock.
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

    /// Whether the fault is on now; tests turn faults on and off while the daemon is at work.
    pub fn fault(&self, fault: &str) -> bool {
        let faults = fs::read_to_string(self.folder.join("faults")).unwrap_or_default();
        faults.lines().any(|line| line.trim() == fault)
    }

    pub fn append(&self, file: &str, line: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.folder.join(file)).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Takes the lock and brings every instance as far as the faults let it.
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
            if instance["state"] == "preparing" && !daemon.fault("prepares") {
                instance["state"] = json!("Starting");
            }
            if instance["state"] == "Starting" && !daemon.fault("boots") {
                instance["state"] = json!(if daemon.fault("no-ssh") { "Unknown" } else { "Running" });
            }
            if instance["state"] == "Running" && instance["ip"].is_null() && !daemon.fault("no-address") {
                let ip = (2..255).map(|n| format!("127.0.0.{n}")).find(|ip| !taken.contains(ip)).unwrap();
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

    /// The state of an instance that is more than a name; in the trash it is `Deleted`.
    pub fn state(&self, name: &str) -> Option<String> {
        let instance = self.instances.get(name).filter(|one| one["state"] != "preparing")?;
        let state = if instance["deleted"] == true { &json!("Deleted") } else { &instance["state"] };
        state.as_str().map(str::to_owned)
    }

    pub fn is_preparing(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(|one| one["state"] == "preparing")
    }

    pub fn launch(&mut self, name: &str, settings: Value) {
        let by = &self.daemon.by;
        self.daemon.append("ledger", &format!("launch {name} by {by}"));
        let mut instance = settings;
        instance["by"] = json!(by);
        instance["state"] = json!("preparing");
        instance["ip"] = Value::Null;
        instance["deleted"] = json!(false);
        instance["mounts"] = json!({});
        instance["snapshots"] = json!([]);
        self.instances.insert(name.to_owned(), instance);
        self.settle();
    }

    pub fn set(&mut self, name: &str, state: &str) {
        self.instances.get_mut(name).unwrap()["state"] = json!(state);
        self.save();
        self.settle();
    }

    /// Notes that goloo changes an instance. One that goloo neither made nor adopted must never be: a
    /// violation, which every test looks for at its end.
    pub fn touch(&self, what: &str, name: &str) {
        let Some(instance) = self.instances.get(name) else { return };
        self.daemon.append("ledger", &format!("{what} {name} by {}", self.daemon.by));
        let adopted = fs::read_to_string(self.daemon.folder.join("adopted")).unwrap_or_default();
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

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
