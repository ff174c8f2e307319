//! The folder store fulfils the contract of all stores; also with everything encrypted.
use std::fs;
use std::path::Path;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::store::Store;
use goloo_store::seal::Identity;
use goloo_store::{DirStore, Options, Seal};
use goloo_testkit::store_suite::Subject;
use tempfile::TempDir;

struct Dir(TempDir, Options);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().unwrap(), Options::default())
    }

    fn sealed() -> Self {
        let ann = Identity::generate();
        let seal = Seal::age(vec![ann.to_public()], vec![ann]);
        Self(TempDir::new().unwrap(), Options { seal, ..Options::default() })
    }

    fn plant_at(folder: &Path, json: &[u8]) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("state.json"), json).unwrap();
    }
}

#[async_trait]
impl Subject for Dir {
    fn handle(&self) -> Box<dyn Store> {
        Box::new(DirStore::open(&self.0.path().join("goloo"), self.1.clone()))
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        Self::plant_at(&self.0.path().join("goloo/active").join(name.as_str()), json);
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        let folder = self.0.path().join("goloo/archive").join(id.as_str());
        let _ = fs::remove_file(folder.join("state.json.prev"));
        Self::plant_at(&folder, json);
    }
}

mod plain {
    use super::Dir;

    goloo_testkit::store_suite!(Dir::new);
}

mod sealed {
    use super::Dir;

    goloo_testkit::store_suite!(Dir::sealed);
}
