//! Creates records for VMs of goloo v0, which kept its state in configs. The configs are never changed, so they are
//! found again at each scan: a VM that already has a record, or was deleted, is skipped.

mod auto_migrate;
mod candidate_status;
mod draft;
mod import;
mod missing_vms;
mod scan;

pub use auto_migrate::{Unimported, on_demand, to_show};
pub use import::{Migrated, Report, Trigger, migrate, unrecorded};
pub use scan::{Candidate, Scan, Skipped};

pub use crate::error::{ImportFailure, MigrateError};
