//! Helpers shared by the provider's tests: a world with the Multipass stand-in or the real one.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use goloo_model::provider::{Endpoints, Machine, Provider, ProviderError};
use goloo_model::record::{Endpoint, Record, Trust};
use goloo_model::spec::ImageRef;
use goloo_multipass::{Limits, MultipassProvider, Settings};
use goloo_testkit::programs::multipass_stand_in;
use goloo_testkit::provider_suite::{self, Bench};
use goloo_testkit::samples::state_key;

pub use goloo_testkit::provider_suite::SuiteWork;

/// A limit that only a defect reaches.
const SOON: Duration = Duration::from_secs(30);
/// How long the real Multipass may take to download an image.
const PREPARATION: Duration = Duration::from_secs(60 * 60);

/// Whether the tests are to use the real Multipass.
pub fn is_real() -> bool {
    std::env::var_os("GOLOO_TEST_MULTIPASS").is_some_and(|value| value == "real")
}

/// A daemon and a state folder. With the real Multipass, the daemon is the user's; then every name starts with this
/// world's own prefix, and nothing else is inspected or touched.
pub struct World {
    folder: tempfile::TempDir,
    prefix: String,
    /// The command of a daemon that others use too.
    real: Option<PathBuf>,
    /// All names an instance of this world may have, whether or not a list shows it.
    names: Mutex<BTreeSet<String>>,
}

impl World {
    /// Chosen by the environment.
    pub fn new() -> Self {
        let program = std::env::var_os("GOLOO_MULTIPASS").unwrap_or_else(|| "multipass".into());
        Self::of(is_real().then(|| program.into()))
    }

    /// Treats this command like the real one: its daemon isn't exclusive to this world.
    pub fn real_at(program: PathBuf) -> Self {
        Self::of(Some(program))
    }

    fn of(real: Option<PathBuf>) -> Self {
        let id = goloo_model::name::VmId::generate().short();
        let prefix = format!("goloo-test-{id}-");
        Self { folder: tempfile::tempdir().unwrap(), prefix, real, names: Mutex::default() }
    }

    /// A name unique to this world. Instances with it are purged when the world is dropped.
    pub fn name(&self, name: &str) -> String {
        let name = format!("{}{name}", self.prefix);
        self.names.lock().unwrap().insert(name.clone());
        name
    }

    /// With the stand-in, for what can't be tested with the real one: its faults.
    pub fn stand_in() -> Self {
        Self::of(None)
    }

    /// With the stand-in and these faults.
    pub fn with(faults: &[&str]) -> Self {
        let world = Self::stand_in();
        world.faults(faults);
        world
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn daemon(&self) -> PathBuf {
        self.path().join("daemon")
    }

    /// Turns these faults on and all others off, immediately, even while the daemon is working.
    pub fn faults(&self, faults: &[&str]) {
        std::fs::create_dir_all(self.daemon()).unwrap();
        let new = self.daemon().join("faults.new");
        std::fs::write(&new, faults.join("\n")).unwrap();
        std::fs::rename(new, self.daemon().join("faults")).unwrap();
    }

    /// The stand-in, in a wrapper that configures its folder: a test can't set its own environment.
    pub fn program(&self) -> PathBuf {
        if let Some(program) = &self.real {
            return program.clone();
        }
        let wrapper = self.path().join("multipass");
        if !wrapper.exists() {
            let line = format!(
                "#!/bin/sh\nGOLOO_STAND_IN_MULTIPASS='{}' exec '{}' \"$@\"\n",
                self.daemon().display(),
                multipass_stand_in().display()
            );
            write_program(&wrapper, &line);
        }
        wrapper
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::new(&self.path().join("state"));
        settings.trust = Trust { key: Some(state_key()), store_is_private: true, ..Default::default() };
        settings.program = self.program().into();
        if self.real.is_none() {
            // Long where only a defect reaches them, short where a test waits for them to expire.
            settings.limits = Limits {
                answer: Duration::from_secs(10),
                busy: SOON,
                launch: SOON,
                launched: SOON,
                settle: SOON,
                start: SOON,
                power_down: Duration::from_secs(10),
                act: SOON,
                copy: SOON,
                poll: Duration::from_millis(2),
            };
        }
        settings
    }

    pub fn multipass(&self) -> MultipassProvider {
        MultipassProvider::new(self.settings())
    }

    /// A provider with changed limits.
    pub fn limited(&self, change: impl FnOnce(&mut Limits)) -> MultipassProvider {
        let mut settings = self.settings();
        change(&mut settings.limits);
        MultipassProvider::new(settings)
    }

    /// Runs the command as a user other than goloo.
    pub fn by_hand(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.program());
        command.env("GOLOO_STAND_IN_BY", "someone").args(arguments).output().unwrap()
    }

    /// An instance that goloo didn't create.
    pub fn foreign(&self, name: &str) {
        let made = self.by_hand(&["launch", "24.04", "--name", name]);
        assert!(made.status.success(), "{made:?}");
    }

    /// Sets how long the daemon waits for a guest to power off.
    pub fn shutdown_limit(&self, limit: Duration) {
        std::fs::create_dir_all(self.daemon()).unwrap();
        std::fs::write(self.daemon().join("shutdown-limit"), limit.as_millis().to_string()).unwrap();
    }

    /// From now on goloo may touch the instance, because the user asked for it.
    pub fn adopted(&self, name: &str) {
        std::fs::write(self.daemon().join("adopted"), format!("{name}\n")).unwrap();
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.daemon().join(name)).unwrap_or_default()
    }

    /// goloo's calls, one per line.
    pub fn calls(&self) -> Vec<String> {
        self.file("calls").lines().map(str::to_owned).collect()
    }

    /// The daemon's own data about an instance.
    pub fn instance(&self, name: &str) -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(&self.file("daemon.json")).unwrap_or_default();
        all[name].clone()
    }

    /// Makes the daemon forget an instance's address.
    pub fn forget_address(&self, name: &str) {
        let path = self.daemon().join("daemon.json");
        let mut all: serde_json::Value = serde_json::from_str(&self.file("daemon.json")).unwrap();
        all[name]["ip"] = serde_json::Value::Null;
        std::fs::write(path, all.to_string()).unwrap();
    }

    /// All instances of this world with their states.
    fn instances(&self) -> Vec<(String, String)> {
        let list = self.by_hand(&["list", "--no-ipv4", "--format", "json"]);
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let all = list["list"].as_array().unwrap().iter();
        all.map(|one| (word(&one["name"]), word(&one["state"])))
            .filter(|(name, _)| name.starts_with(&self.prefix))
            .collect()
    }

    /// Creates a machine and returns its record as the engine would have it.
    pub async fn create(&self, name: &str) -> (Machine, Record) {
        let machine = self.machine(name);
        let mut work = SuiteWork::default();
        let endpoint = endpoint(self.multipass().create(&machine, &mut work).await.unwrap());
        let record = Record { endpoint, ..record(&machine, &work) };
        (machine, provider_suite::proven(record))
    }
}

impl World {
    /// Purges everything with one of this world's names. An instance that is being prepared is in no list and can't be
    /// deleted, so this waits for it.
    fn purge_real(&self) {
        for name in self.names.lock().unwrap().iter() {
            let end = Instant::now() + PREPARATION;
            while self.is_being_prepared(name) && Instant::now() < end {
                std::thread::sleep(Duration::from_secs(1));
            }
            let _ = self.by_hand(&["delete", "--purge", name]);
        }
    }

    fn is_being_prepared(&self, name: &str) -> bool {
        let said = self.by_hand(&["get", &format!("local.{name}.goloo.name")]);
        String::from_utf8_lossy(&said.stderr).contains("instance is being prepared")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.real.is_some() {
            self.purge_real();
        } else {
            // Clients that still wait for a launch exit when the daemon's faults are turned off.
            self.faults(&[]);
        }
        if !std::thread::panicking() {
            assert_eq!(self.file("violations"), "", "goloo touched what it didn't make");
        }
    }
}

#[async_trait]
impl Bench for World {
    fn provider(&self) -> Box<dyn Provider> {
        Box::new(self.multipass())
    }

    fn machine(&self, name: &str) -> Machine {
        let name = self.name(name);
        let mut machine = provider_suite::machine(&name, ImageRef::Alias("ubuntu-24.04".to_owned()), b"");
        // The real Multipass's image needs more memory than the suite's minimum.
        machine.stack.memory = goloo_model::spec::Size::gib(1);
        machine.stack.disk = goloo_model::spec::Size::gib(5);
        machine.user_data = format!(
            "#cloud-config\nwrite_files:\n  - path: {}\n    content: \"# {}\"\n",
            goloo_cloudinit::KEY_FOLDER,
            machine.host_key
        )
        .into_bytes();
        machine
    }

    async fn ledger(&self) -> Vec<String> {
        let mut all: Vec<String> = self.instances().into_iter().map(|(name, _)| name).collect();
        if self.real.is_none() {
            let preparing: serde_json::Value =
                serde_json::from_str(&self.file("daemon.json")).unwrap_or_default();
            let preparing = preparing.as_object().into_iter().flatten();
            all.extend(
                preparing.filter(|(_, one)| one["state"] == "preparing").map(|(name, _)| name.clone()),
            );
        }
        all
    }

    async fn running(&self) -> usize {
        self.instances().iter().filter(|(_, state)| state == "Running").count()
    }

    async fn crash(&self, record: &Record) {
        let stopped = self.by_hand(&["stop", "--force", record.name.as_str()]);
        assert!(stopped.status.success(), "{stopped:?}");
    }

    fn stride(&self) -> usize {
        if self.real.is_some() { 50 } else { 1 }
    }

    async fn show_whose(&self, record: &Record, error: &ProviderError) {
        let hint = format!("multipass start {}", record.name);
        assert!(
            matches!(error, ProviderError::Failed { hint: given, .. } if given.debug_text().starts_with(&hint)),
            "{error:?}"
        );
        self.by_hand(&["start", record.name.as_str()]);
    }
}

pub fn write_program(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn record(machine: &Machine, work: &SuiteWork) -> Record {
    provider_suite::record_with(machine, goloo_multipass::INFO.id, work)
}

pub fn endpoint(made: Endpoints) -> Endpoint {
    assert!(made.details.is_empty(), "Multipass keeps nothing else");
    made.endpoint
}

/// An error as the command displays it.
pub fn text(error: &ProviderError) -> String {
    let hint = match error {
        ProviderError::Unavailable { hint, .. }
        | ProviderError::Unsupported { hint, .. }
        | ProviderError::Permission { hint, .. }
        | ProviderError::Unfinished { hint, .. }
        | ProviderError::Failed { hint, .. } => hint.debug_text(),
        _ => String::new(),
    };
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}\nhint: {hint}")
}

/// Polls until the condition holds.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !so().await {
        assert!(Instant::now() < end, "{what}: never");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
