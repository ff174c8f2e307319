//! The in-memory store fulfills the contract.

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::store::Store;
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::store_suite::Subject;

#[derive(Default)]
struct Memory(MemoryStore);

#[async_trait]
impl Subject for Memory {
    fn handle(&self) -> Box<dyn Store> {
        Box::new(self.0.clone())
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        self.0.plant(name, json);
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        self.0.plant_archived(id, json);
    }
}

goloo_testkit::store_suite!(Memory::default);
