#![allow(missing_docs)]
use goloo_core::{name::*, record::*, store::*};
pub struct DirStore; pub struct Options { pub allow_network: bool }
impl DirStore { pub fn open(_: &std::path::Path, _: Options) -> Self { Self } }
#[async_trait::async_trait]
impl Store for DirStore {
 fn location(&self) -> String { todo!() } async fn names(&self) -> Result<Vec<String>, StoreError> { todo!() } async fn list(&self) -> Result<Listing<Summary>, StoreError> { todo!() }
 async fn load(&self, _: &VmName) -> Result<Option<Loaded>, StoreError> { todo!() } async fn snapshot(&self, _: &VmName) -> Result<Snapshot, StoreError> { todo!() }
 async fn lock(&self, _: &VmName, _: &Owner) -> Result<Box<dyn VmLock>, StoreError> { todo!() } async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> { todo!() }
 async fn archive_load(&self, _: &ArchiveId) -> Result<Option<Archived>, StoreError> { todo!() } async fn archive_snapshot(&self, _: &ArchiveId) -> Result<Snapshot, StoreError> { todo!() } async fn archive_delete(&self, _: &ArchiveId) -> Result<(), StoreError> { todo!() }
}
