//! Who holds which lock: a row for each name, whose epoch rises with every new holder.
//!
//! A write counts by its epoch alone, never by the time: whatever clocks do, of two who think that they
//! hold a lock one can write. Time only decides when a holder who gives no sign of life is given up.

use std::sync::Arc;
use std::time::Duration;

use goloo_core::name::VmName;
use goloo_core::record::Owner;
use goloo_core::store::{HeldLock, StoreError};
use goloo_core::time::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::database::Failure;
use super::machine::{Machine, Process};
use super::shelf::{bounded_text, text_of};

/// How long a holder's word counts, and how often it is renewed.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// After so long without a sign of life the lock may be taken over; whole seconds.
    pub length: Duration,
    /// How often the holder gives one.
    pub renewal: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Self { length: Duration::from_secs(90), renewal: Duration::from_secs(20) }
    }
}

impl Lease {
    fn seconds(self) -> i64 {
        i64::try_from(self.length.as_secs()).unwrap_or(i64::MAX)
    }
}

/// The computer as locks see it.
#[derive(Clone)]
pub(super) struct Locks {
    pub machine: Arc<dyn Machine>,
    pub lease: Lease,
}

/// A lock that was taken.
pub(super) struct Taken {
    pub epoch: i64,
    /// Whose it was, when they didn't give it back.
    pub over_from: Option<Owner>,
}

/// A lock's row.
struct Stored {
    name: String,
    owner: Option<String>,
    process: Process,
    lease_end: i64,
    unfinished: Option<String>,
}

/// The columns that are read, each with its place in a row.
fn columns() -> String {
    let texts = ["name", "owner", "boot", "pid_space", "unfinished"].map(bounded_text);
    format!("{}, pid, pid_start, lease_end", texts.join(", "))
}

/// The epoch after the one that is stored. One that no goloo has written begins again where no earlier holder can be.
const NEXT_EPOCH: &str = "iif(typeof(epoch) = 'integer' AND epoch BETWEEN 0 AND 1 << 53, epoch + 1, (random() & ((1 << 52) - 1)) + 1)";

impl Stored {
    /// Others may have put anything there: what isn't of the column's type counts as empty.
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let optional = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            other => other.map(|value| Some(text_of(value))),
        };
        let text = |column| optional(column).map(Option::unwrap_or_default);
        let number = |column: usize| match row.get_ref(column) {
            Ok(ValueRef::Integer(number)) => Ok(number),
            other => other.map(|_| 0),
        };
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
            lease_end: number(7)?,
        })
    }

    fn find(transaction: &Transaction<'_>, name: &VmName) -> rusqlite::Result<Option<Self>> {
        let query = format!("SELECT {} FROM locks WHERE name = ?1", columns());
        transaction.query_row(&query, [name.as_str()], Self::from_row).optional()
    }

    fn owner(&self) -> Option<Owner> {
        owner(self.owner.as_deref())
    }
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
    /// Takes a lock that is free, or whose holder is gone or gave no sign of life for too long.
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
            && !held.process.is_over(&here, &*self.machine)
            && !self.has_ended(held.lease_end, now)
        {
            return Err(self.shown(name.clone(), held).refusal().into());
        }
        let over_from =
            stored.and_then(|stored| stored.owner().or(self::owner(stored.unfinished.as_deref())));
        let statement = format!(
            "INSERT INTO locks (name, epoch, owner, boot, pid_space, pid, pid_start, lease_end)
             VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (name) DO UPDATE SET epoch = {NEXT_EPOCH}, owner = excluded.owner, boot = excluded.boot,
               pid_space = excluded.pid_space, pid = excluded.pid, pid_start = excluded.pid_start,
               lease_end = excluded.lease_end, unfinished = NULL
             RETURNING epoch"
        );
        let epoch = transaction.query_row(
            &statement,
            params![
                name.as_str(),
                to_json(owner),
                here.boot,
                here.pid_space,
                here.pid,
                i64::try_from(here.start).unwrap_or_default(),
                now.saturating_add(self.lease.seconds()),
            ],
            |row| row.get(0),
        )?;
        Ok(Taken { epoch, over_from })
    }

    /// An end that lies further ahead than a lease is long was written by another clock: it says nothing.
    fn has_ended(&self, lease_end: i64, now: i64) -> bool {
        lease_end <= now || lease_end > now.saturating_add(self.lease.seconds())
    }

    /// Gives a sign of life; `false` when the lock is someone else's by now.
    pub fn renew(&self, transaction: &Transaction<'_>, name: &VmName, epoch: i64) -> Result<bool, Failure> {
        let end = self.machine.uptime().saturating_add(self.lease.seconds());
        let changed = transaction.execute(
            "UPDATE locks SET lease_end = ?3 WHERE name = ?1 AND epoch = ?2",
            params![name.as_str(), epoch, end],
        )?;
        Ok(changed > 0)
    }

    /// The locks that are held, sorted by name.
    pub fn held(&self, transaction: &Transaction<'_>) -> Result<Vec<HeldLock>, Failure> {
        let here = self.machine.this_process();
        let query = format!("SELECT {} FROM locks WHERE owner IS NOT NULL ORDER BY name", columns());
        let mut statement = transaction.prepare(&query)?;
        let rows = statement.query_map([], Stored::from_row)?.collect::<Result<Vec<_>, _>>()?;
        let living = rows.into_iter().filter(|row| !row.process.is_over(&here, &*self.machine));
        let named = living.filter_map(|row| Some((VmName::parse(&row.name).ok()?, row)));
        Ok(named.map(|(name, row)| self.shown(name, &row)).collect())
    }

    fn shown(&self, name: VmName, row: &Stored) -> HeldLock {
        let left = row.lease_end.saturating_sub(self.machine.uptime());
        HeldLock { name, owner: row.owner(), lease_end: in_seconds(left) }
    }

    /// The end of a lease that is given or renewed now.
    pub fn end(&self) -> Option<Timestamp> {
        in_seconds(self.lease.seconds())
    }

    /// Ends the lock of a name. What its holder had begun is left for the next one to look at.
    pub fn break_lock(
        &self,
        transaction: &Transaction<'_>,
        name: &VmName,
    ) -> Result<Option<HeldLock>, Failure> {
        let Some(stored) = Stored::find(transaction, name)?.filter(|stored| stored.owner.is_some()) else {
            return Ok(None);
        };
        transaction.execute(
            &format!(
                "UPDATE locks SET epoch = {NEXT_EPOCH}, unfinished = owner, owner = NULL WHERE name = ?1"
            ),
            [name.as_str()],
        )?;
        let over = stored.process.is_over(&self.machine.this_process(), &*self.machine);
        Ok((!over).then(|| self.shown(name.clone(), &stored)))
    }
}

/// Gives a lock back, unless it is someone else's by now.
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
