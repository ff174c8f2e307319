//! Who holds which lock: a row for each name, changed by the rules of [`crate::lease`]. Its clock is the computer's
//! uptime, and a holder whose process is over needs no lease to end.

use std::path::Path;
use std::sync::Arc;

use goloo_model::name::VmName;
use goloo_model::record::Owner;
use goloo_model::store::{HeldLock, StoreError};
use goloo_model::time::Timestamp;
use goloo_sys::process::Process;
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::failure::Failure;
use super::machine::Machine;
use super::row_limit::RowLimit;
use super::rows::{bounded_text, text_of};
use crate::lease::{Heartbeat, Lease, LeaseTiming, Succession};

/// This host's view of the locks.
#[derive(Clone)]
pub(super) struct Locks {
    pub machine: Arc<dyn Machine>,
    pub timing: LeaseTiming,
}

/// The result of taking a lock.
pub(super) struct Taken {
    pub epoch: i64,
    /// The former holder, if they didn't release it.
    pub over_from: Option<Owner>,
}

/// A lock's row.
struct Stored {
    name: String,
    owner: Option<String>,
    process: Process,
    lease: Lease,
    unfinished: Option<String>,
    /// `None` when it is none that goloo writes.
    epoch: Option<u64>,
}

/// The columns to read, each with its index.
fn columns() -> String {
    let texts = ["name", "owner", "boot", "pid_space", "unfinished"].map(bounded_text);
    format!("{}, pid, pid_start, lease_end, epoch", texts.join(", "))
}

impl Stored {
    /// Others may have written anything: values of the wrong type are treated as empty.
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let optional = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            other => other.map(|value| Some(text_of(value))),
        };
        let text = |column| optional(column).map(Option::unwrap_or_default);
        let integer = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Ok(Some(number)),
            other => other.map(|_| None),
        };
        let number = |column| integer(column).map(Option::unwrap_or_default);
        Ok(Self {
            name: text(0)?,
            owner: optional(1)?,
            process: Process {
                boot: text(2)?,
                pid_space: text(3)?,
                pid: u32::try_from(number(5)?).unwrap_or_default(),
                start: u64::try_from(number(6)?).unwrap_or_default(),
            },
            unfinished: optional(4)?,
            lease: Lease::before(number(7)?),
            epoch: integer(8)?.and_then(|epoch| u64::try_from(epoch).ok()),
        })
    }

    fn find(transaction: &Transaction<'_>, name: &VmName) -> rusqlite::Result<Option<Self>> {
        let query = format!("SELECT {} FROM locks WHERE name = ?1", columns());
        transaction.query_row(&query, [name.as_str()], Self::from_row).optional()
    }

    fn owner(&self) -> Option<Owner> {
        owner(self.owner.as_deref())
    }

    fn succession(&self) -> Succession {
        Succession::after(self.epoch, self.owner(), owner(self.unfinished.as_deref()))
    }
}

/// An epoch as SQLite stores it; none is larger than [`EPOCH_MAX`](crate::lease::EPOCH_MAX).
fn to_integer(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// Of a name that nobody has locked before.
fn first() -> Succession {
    Succession::after(Some(0), None, None)
}

fn in_seconds(left: i64) -> Option<Timestamp> {
    Timestamp::from_unix(Timestamp::now().unix().saturating_add(left))
}

fn owner(json: Option<&str>) -> Option<Owner> {
    serde_json::from_str(json?).ok()
}

fn to_json(owner: &Owner) -> String {
    serde_json::to_string(owner).expect("an owner has only string keys")
}

impl Locks {
    /// Takes a lock that is free, or whose holder has exited or sent no heartbeat for too long.
    pub fn take(
        &self,
        transaction: &Transaction<'_>,
        name: &VmName,
        owner: &Owner,
    ) -> Result<Taken, Failure> {
        let (here, now) = (self.machine.this_process(), self.machine.uptime());
        let stored = Stored::find(transaction, name)?;
        let held = stored.as_ref().filter(|stored| stored.owner.is_some());
        if let Some(held) = held
            && !self.is_over(held, &here)
            && !self.has_ended(held.lease, now)
        {
            return Err(self.shown(name.clone(), held).refusal().into());
        }
        let Succession { epoch, unsettled } = stored.map_or_else(first, |stored| stored.succession());
        let epoch = to_integer(epoch);
        transaction.execute(
            "INSERT INTO locks (name, epoch, owner, boot, pid_space, pid, pid_start, lease_end)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner, boot = excluded.boot,
               pid_space = excluded.pid_space, pid = excluded.pid, pid_start = excluded.pid_start,
               lease_end = excluded.lease_end, unfinished = NULL",
            params![
                name.as_str(),
                epoch,
                to_json(owner),
                here.boot,
                here.pid_space,
                here.pid,
                i64::try_from(here.start).unwrap_or_default(),
                self.next_end(),
            ],
        )?;
        Ok(Taken { epoch, over_from: unsettled })
    }

    fn is_over(&self, stored: &Stored, here: &Process) -> bool {
        stored.process.is_over(here, |pid| self.machine.start_of(pid))
    }

    /// An end that another clock has written says nothing.
    fn has_ended(&self, lease: Lease, now: i64) -> bool {
        lease.has_ended(now) || lease.is_implausible(now, self.timing.seconds())
    }

    /// Where a lease ends that is given or renewed now. It counts until the second before.
    fn next_end(&self) -> i64 {
        self.machine.uptime().saturating_add_unsigned(self.timing.seconds())
    }

    /// Sends a heartbeat.
    pub fn renew(
        &self,
        transaction: &Transaction<'_>,
        name: &VmName,
        epoch: i64,
    ) -> Result<Heartbeat, Failure> {
        let changed = transaction.execute(
            "UPDATE locks SET lease_end = ?3 WHERE name = ?1 AND epoch = ?2",
            params![name.as_str(), epoch, self.next_end()],
        )?;
        Ok(if changed > 0 { Heartbeat::Alive } else { Heartbeat::Lost })
    }

    /// The held locks, sorted by name.
    pub fn held(&self, file: &Path, transaction: &Transaction<'_>) -> Result<Vec<HeldLock>, Failure> {
        let here = self.machine.this_process();
        let query = format!("SELECT {} FROM locks WHERE owner IS NOT NULL ORDER BY name", columns());
        let mut statement = transaction.prepare(&query)?;
        let mut rows = statement.query([])?;
        let (mut every, mut living) = (RowLimit::of_rows(file, "locks"), RowLimit::of_locks(file));
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            every.count()?;
            let stored = Stored::from_row(row)?;
            let Ok(name) = VmName::parse(&stored.name) else { continue };
            if !self.is_over(&stored, &here) {
                living.count()?;
                held.push(self.shown(name, &stored));
            }
        }
        Ok(held)
    }

    fn shown(&self, name: VmName, row: &Stored) -> HeldLock {
        let left = row.lease.end().saturating_sub(self.machine.uptime());
        HeldLock { name, owner: row.owner(), lease_end: in_seconds(left) }
    }

    /// The end of a lease that is granted or renewed now.
    pub fn end(&self) -> Option<Timestamp> {
        in_seconds(i64::try_from(self.timing.seconds()).unwrap_or(i64::MAX))
    }

    /// Breaks the lock of a name. Its holder's unfinished work is left to the next holder.
    pub fn break_lock(
        &self,
        transaction: &Transaction<'_>,
        name: &VmName,
    ) -> Result<Option<HeldLock>, Failure> {
        let Some(stored) = Stored::find(transaction, name)?.filter(|stored| stored.owner.is_some()) else {
            return Ok(None);
        };
        let (over, shown) =
            (self.is_over(&stored, &self.machine.this_process()), self.shown(name.clone(), &stored));
        let Succession { epoch, unsettled } = stored.succession();
        transaction.execute(
            "UPDATE locks SET epoch = ?2, unfinished = ?3, owner = NULL WHERE name = ?1",
            params![name.as_str(), to_integer(epoch), unsettled.as_ref().map(to_json)],
        )?;
        Ok((!over).then_some(shown))
    }
}

/// Releases a lock, unless someone else holds it by now.
pub(super) fn release(transaction: &Transaction<'_>, name: &VmName, epoch: i64) -> Result<(), Failure> {
    transaction.execute(
        "UPDATE locks SET owner = NULL WHERE name = ?1 AND epoch = ?2",
        params![name.as_str(), epoch],
    )?;
    Ok(())
}

/// Refuses a writer who has lost the lock.
pub(super) fn check(transaction: &Transaction<'_>, name: &VmName, epoch: i64) -> Result<(), Failure> {
    let query = format!("SELECT epoch = ?2, {} FROM locks WHERE name = ?1", bounded_text("owner"));
    let found: Option<(bool, String)> = transaction
        .prepare_cached(&query)?
        .query_row(params![name.as_str(), epoch], |row| Ok((row.get(0)?, row.get_ref(1).map(text_of)?)))
        .optional()?;
    match found {
        Some((true, _)) => Ok(()),
        found => {
            let by = found.and_then(|(_, json)| owner(Some(&json))).map(|owner| owner.to_string());
            Err(StoreError::LockLost { name: name.clone(), by }.into())
        }
    }
}
