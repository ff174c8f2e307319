//! The conformance suite, as far as a machine without a console, snapshots and copies has to pass it.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::Record;
use goloo_model::spec::ImageRef;
use goloo_null::NullProvider;
use goloo_testkit::provider_suite::{self, Bench};

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The machines' files, and how many of them run.
    fn files(&self) -> (Vec<String>, usize) {
        let entries: Vec<_> = std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap).collect();
        let text = |entry: &std::fs::DirEntry| std::fs::read_to_string(entry.path()).unwrap();
        let running = entries.iter().filter(|entry| text(entry).contains("\"is_running\":true")).count();
        (entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect(), running)
    }
}

#[async_trait]
impl Bench for World {
    fn provider(&self) -> Box<dyn Provider> {
        Box::new(NullProvider::new(self.0.path().to_owned()))
    }

    fn machine(&self, name: &str) -> Machine {
        provider_suite::machine(name, ImageRef::Alias("ubuntu-24.04".to_owned()), b"#cloud-config\n")
    }

    fn has_ssh(&self) -> bool {
        false
    }

    async fn ledger(&self) -> Vec<String> {
        self.files().0
    }

    async fn running(&self) -> usize {
        self.files().1
    }

    async fn crash(&self, record: &Record) {
        let path = self.0.path().join(record.id.as_str());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("\"is_running\":true", "\"is_running\":false")).unwrap();
    }
}

goloo_testkit::provider_suite!(World::new);
