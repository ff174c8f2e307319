//! Rows of a DynamoDB table as locks: one row per object, keyed by `LockID` as in Terraform's lock tables.
//!
//! A row contains its holder (`Holder`, a random id, new each time) and its expiry (`Ends`, in seconds since
//! 1970 by the clock of the table's service, which every response contains). So every row expires, independent of
//! our clock.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use goloo_model::aws_error::{self, AwsErrorKind};
use goloo_model::check::Check;
use goloo_model::lock_table_error::{LockTableError, TableName};
use goloo_model::store::{ServiceProblem, StoreError};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};
use tokio::time::Instant;
use ulid::Ulid;

use super::access::{Clock, TableCheck};
use super::error::Seen;
use super::http::ServiceClock;
use super::signed::{Answer, Question, SignedService};
use super::table_error::TableError;
use crate::lease::Lease;
use goloo_sys::error_chain::in_one_line;

/// The content type of services with a JSON protocol.
const JSON: (HeaderName, &str) = (CONTENT_TYPE, "application/x-amz-json-1.0");
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

#[derive(Debug)]
pub(super) struct Table {
    pub service: SignedService,
    pub clock: Arc<ServiceClock>,
    pub name: String,
}

#[async_trait]
impl TableCheck for Table {
    async fn check(&self, key: &str, place: &str) -> Result<(), StoreError> {
        let check = async {
            self.try_out(key).await?;
            self.race(key).await
        };
        check.await.map_err(|error| error.into_store_error(place))
    }
}

/// How many callers take a row concurrently in a check, and when it expires if they die.
const RACERS: usize = 8;
const RACE_SECONDS: u32 = 30;

/// Why a request was refused.
enum Refusal {
    /// The row doesn't meet the condition; this is its content.
    Condition(Value),
    Error(TableError),
}

impl Table {
    /// Takes the row under the id `holder`, for this many seconds: if it is free, if it has expired,
    /// or if one of `ours` holds it. Returns until when we certainly hold it.
    pub async fn take(
        &self,
        key: &str,
        holder: &str,
        ours: &[&str],
        seconds: u32,
    ) -> Result<Instant, TableError> {
        let now = self.now(key).await?;
        let lease = Lease::since(now, seconds.into());
        let sent = Instant::now();
        match self.call("PutItem", self.put(key, holder, ours, now, lease)).await {
            Ok(_) => {
                // The response's time is at least as late as the row, except for the fraction of a second that
                // it lacks.
                let left = lease.seconds_left(self.now(key).await?) - 1;
                Ok(sent + Duration::from_secs(u64::try_from(left).unwrap_or(0)))
            }
            Err(Refusal::Condition(row)) => {
                // Not every service includes the row's content in its refusal.
                let row = if row.is_null() { self.row(key).await? } else { row };
                Err(self.taken(key, &row, now))
            }
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    /// The current content of the row; null if there is none.
    async fn row(&self, key: &str) -> Result<Value, TableError> {
        let look = json!({"TableName": self.name, "Key": {"LockID": {"S": key}}, "ConsistentRead": true});
        match self.call("GetItem", look).await {
            Ok(said) => Ok(said["Item"].clone()),
            // A read has no condition.
            Err(Refusal::Condition(_)) => Ok(Value::Null),
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    /// Whether rows are available. None is taken.
    pub async fn examine(&self) -> Check {
        match self.try_out("doctor").await {
            Ok(()) => Check::ok(format!("{} can hold its locks", self.table())),
            Err(error) => Check::failed(in_one_line(&error), error.hint()),
        }
    }

    /// Sends every request that locks need, the writes with an id that nobody has: they must be refused.
    async fn try_out(&self, key: &str) -> Result<(), TableError> {
        let nobody = Ulid::new().to_string();
        self.now(key).await?;
        for (action, place) in [("PutItem", "Item"), ("DeleteItem", "Key")] {
            match self.call(action, self.if_held(place, key, &nobody)).await {
                Ok(_) => {
                    self.give_back(key, &nobody).await;
                    return Err(TableError::Unconditional(self.table()));
                }
                Err(Refusal::Condition(_)) => {}
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Several callers try to take one row concurrently; only one may get it.
    async fn race(&self, key: &str) -> Result<(), TableError> {
        let ids: Vec<String> = (0..RACERS).map(|_| Ulid::new().to_string()).collect();
        let takes = join_all(ids.iter().map(|id| self.take(key, id, &[], RACE_SECONDS))).await;
        join_all(ids.iter().map(|id| self.give_back(key, id))).await;
        let taken = takes.iter().filter(|take| take.is_ok()).count();
        match takes.into_iter().find_map(Result::err) {
            _ if taken > 1 => Err(TableError::Unconditional(self.table())),
            Some(error) if taken == 0 => Err(error),
            _ => Ok(()),
        }
    }

    fn put(&self, key: &str, holder: &str, ours: &[&str], now: i64, lease: Lease) -> Value {
        // As [`Lease::has_ended`].
        let mut condition = "attribute_not_exists(LockID) OR Ends < :now".to_owned();
        let mut values = json!({":now": {"N": now.to_string()}});
        for (index, id) in ours.iter().enumerate() {
            condition.push_str(&format!(" OR Holder = :our{index}"));
            values[format!(":our{index}")] = json!({"S": id});
        }
        json!({
            "TableName": self.name,
            "Item": {"LockID": {"S": key}, "Holder": {"S": holder}, "Ends": {"N": lease.last().to_string()}},
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        })
    }

    /// Releases the row, if this id holds it; `false` if it is unknown whether that succeeded.
    pub async fn give_back(&self, key: &str, holder: &str) -> bool {
        let deletion = self.if_held("Key", key, holder);
        matches!(self.call("DeleteItem", deletion).await, Ok(_) | Err(Refusal::Condition(_)))
    }

    /// A request on the row under the condition that this id holds it; `place` is the request's name for the key.
    fn if_held(&self, place: &str, key: &str, holder: &str) -> Value {
        json!({
            "TableName": self.name,
            place: {"LockID": {"S": key}},
            "ConditionExpression": "Holder = :our",
            "ExpressionAttributeValues": {":our": {"S": holder}},
        })
    }

    /// The service's time, in seconds since 1970; makes a request if there was no response yet.
    async fn now(&self, key: &str) -> Result<i64, TableError> {
        if self.clock.now().is_none() {
            self.row(key).await?;
        }
        self.clock.now().ok_or_else(|| self.failed("its responses have no Date header".to_owned()))
    }

    fn taken(&self, key: &str, row: &Value, now: i64) -> TableError {
        let (table, key) = (self.table(), key.to_owned());
        if row.is_null() {
            // It was released since the refusal.
            return LockTableError::Busy { table, key, seconds: 0 }.into();
        }
        let ends = row["Ends"]["N"].as_str().and_then(|ends| ends.parse().ok());
        let error = match ends.map(Lease::until) {
            Some(lease) => LockTableError::Busy { table, key, seconds: lease.seconds_left(now) },
            None => LockTableError::Foreign { table, key },
        };
        error.into()
    }

    async fn call(&self, action: &str, body: Value) -> Result<Value, Refusal> {
        let target = format!("DynamoDB_20120810.{action}");
        let question = Question {
            method: Method::POST,
            path: "/",
            headers: &[JSON, (TARGET, &target)],
            body: body.to_string(),
        };
        let answer = self.service.ask(question).await;
        let answer = answer.map_err(|seen| Refusal::Error(self.unanswered(action, seen)))?;
        self.understood(action, &answer)
    }

    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
    fn understood(&self, action: &str, answer: &Answer) -> Result<Value, Refusal> {
        let said = serde_json::from_slice::<Value>(&answer.body).ok();
        if answer.status == 200
            && let Some(said) = said
        {
            return Ok(said);
        }
        let said = said.unwrap_or_default();
        let text = |key: &str| said[key].as_str().unwrap_or_default();
        let code = text("__type").rsplit('#').next().unwrap_or_default();
        if code == "ConditionalCheckFailedException" {
            return Err(Refusal::Condition(said["Item"].clone()));
        }
        let message = if text("message").is_empty() { text("Message") } else { text("message") };
        Err(Refusal::Error(self.refused(action, answer.status, code, message)))
    }

    fn refused(&self, action: &str, status: u16, code: &str, message: &str) -> TableError {
        let table = self.table();
        let said = format!("{code}: {message}");
        match code {
            "" if status < 500 => {
                LockTableError::Odd { endpoint: self.service.endpoint.clone(), status }.into()
            }
            "" => self.failed(format!("status {status}")),
            "ResourceNotFoundException" => LockTableError::Missing(table).into(),
            "ValidationException" if message.to_lowercase().contains("key") => {
                LockTableError::Key(table).into()
            }
            _ => match aws_error::trouble(code, message, None) {
                Some(AwsErrorKind::ClockSkew) => {
                    TableError::Service { table, problem: ServiceProblem::ClockSkew, source: said.into() }
                }
                Some(AwsErrorKind::Denied | AwsErrorKind::Expired | AwsErrorKind::Rejected) => {
                    self.denied(action, said.into())
                }
                Some(AwsErrorKind::Transient) | None => self.failed(said),
            },
        }
    }

    fn unanswered(&self, action: &str, seen: Seen) -> TableError {
        if let Some(problem) = seen.problem() {
            return TableError::Service { table: self.table(), problem, source: seen.into_source() };
        }
        if seen.is_denial() {
            return self.denied(action, seen.into_source());
        }
        TableError::Unreachable {
            table: self.table(),
            endpoint: self.service.endpoint.clone(),
            nobody: seen.is_nobody(),
            source: seen.into_source(),
        }
    }

    fn denied(&self, action: &str, source: Box<dyn Error + Send + Sync>) -> TableError {
        TableError::Denied { table: self.table(), permission: format!("dynamodb:{action}"), source }
    }

    pub fn failed(&self, said: String) -> TableError {
        LockTableError::Failed { table: self.table(), said }.into()
    }

    fn table(&self) -> TableName {
        TableName { name: self.name.clone(), region: self.service.region.clone() }
    }
}
