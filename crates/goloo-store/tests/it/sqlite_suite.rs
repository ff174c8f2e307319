//! The SQLite store fulfils the contract of all stores; also with everything encrypted.
use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::store::Store;
use goloo_store::seal::Identity;
use goloo_store::{Options, Seal, SqliteStore};
use goloo_testkit::store_suite::Subject;
use pollster::block_on;
use rusqlite::{Connection, params};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    seal: Seal,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), seal: Seal::none() }
    }

    fn sealed() -> Self {
        let ann = Identity::generate();
        Self { seal: Seal::age(vec![ann.to_public()], vec![ann]), ..Self::new() }
    }

    fn store(&self) -> SqliteStore {
        let file = self.folder.path().join("goloo/goloo.db");
        SqliteStore::open(&file, Options { seal: self.seal.clone(), ..Options::default() })
    }

    /// Direct access to the database; its tables are created if they don't exist.
    fn by_hand(&self) -> Connection {
        block_on(self.store().set_moved(None, None)).unwrap();
        let connection = Connection::open(self.folder.path().join("goloo/goloo.db")).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection
    }
}

#[async_trait]
impl Subject for Sqlite {
    fn handle(&self) -> Box<dyn Store> {
        Box::new(self.store())
    }

    async fn plant(&self, name: &VmName, json: &[u8]) {
        let statement = "INSERT INTO vms (name, record) VALUES (?1, ?2)
            ON CONFLICT (name) DO UPDATE SET record = excluded.record";
        self.by_hand().execute(statement, params![name.as_str(), json]).unwrap();
    }

    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        let statement = "INSERT INTO archive (archive_id, record) VALUES (?1, ?2)
            ON CONFLICT (archive_id) DO UPDATE SET record = excluded.record";
        self.by_hand().execute(statement, params![id.as_str(), json]).unwrap();
    }
}

mod plain {
    use super::Sqlite;

    goloo_testkit::store_suite!(Sqlite::new);
}

mod sealed {
    use super::Sqlite;

    goloo_testkit::store_suite!(Sqlite::sealed);
}
