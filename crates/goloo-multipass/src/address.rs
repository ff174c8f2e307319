//! Addresses of instances. `list` alone tells them, and asks every guest that runs, one after the other in the
//! daemon's only thread: one guest that is frozen holds the daemon up for everybody, and then even a forced stop
//! comes too late. So guests are checked first, by ways that can hold up nobody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::join_all;
use goloo_core::provider::Observation;
use goloo_core::record::Record;
use tokio::net::TcpStream;

use crate::errors::CallError;
use crate::json::{self, Instance, State};
use crate::provider::{MultipassProvider, instance_name, observation};

/// A port where nobody listens: a guest's kernel refuses the connection at once, and no server in it notes one.
const CLOSED_PORT: u16 = 1;
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What there is of a running instance's address.
pub(crate) enum Address {
    Own(Ipv4Addr),
    /// Multipass doesn't know it yet.
    NotYet,
    /// The guest doesn't answer, so it can't be asked for.
    GuestSilent,
}

impl MultipassProvider {
    /// The address of a running instance; `known` is the one that is on record.
    pub(crate) async fn address(&self, name: &str, known: Option<&str>) -> Result<Address, CallError> {
        if !self.guest_responds(name, known).await {
            return Ok(Address::GuestSilent);
        }
        Ok(self.addresses().await?.remove(name).map_or(Address::NotYet, Address::Own))
    }

    /// What each of these machines does now, with its address.
    pub(crate) async fn observe_all(&self, records: &[&Record], instances: &[Instance]) -> Vec<Observation> {
        let mut seen: Vec<Observation> =
            records.iter().map(|record| observation(record, instances)).collect();
        let is_running = |record: &Record| {
            let name = instance_name(record);
            instances.iter().any(|one| one.name == name && one.state == State::Running)
        };
        let running: Vec<usize> = (0..records.len()).filter(|at| is_running(records[*at])).collect();
        let answers = join_all(running.iter().map(|at| {
            let record = records[*at];
            self.guest_responds(instance_name(record), record.ip())
        }));
        let answers = answers.await;
        let listed = match answers.iter().all(|answers| *answers) {
            true if running.is_empty() => None,
            true => self.addresses().await.ok(),
            false => None,
        };
        for (at, answers) in running.into_iter().zip(answers) {
            let record = records[at];
            if !answers {
                let hint = format!("goloo stop --force {} powers it off", record.name);
                seen[at].reason = Some(format!("its guest doesn't answer; {hint}"));
                continue;
            }
            seen[at].ip = match &listed {
                Some(listed) => listed.get(instance_name(record)).map(ToString::to_string),
                None => record.ip().map(str::to_owned),
            };
        }
        seen
    }

    async fn addresses(&self) -> Result<BTreeMap<String, Ipv4Addr>, CallError> {
        const LIST: &str = "list";
        let bytes = self.cli().call(LIST, ["--format", "json"], self.limits().answer).await?;
        json::addresses(&bytes).map_err(|source| CallError::Unreadable { command: LIST, source })
    }

    /// Whether the guest of a running instance answers, at the address that is on record or at another one: `exec`
    /// learns that from the daemon and goes to the guest by itself.
    async fn guest_responds(&self, name: &str, known: Option<&str>) -> bool {
        if let Some(ip) = known.and_then(|ip| ip.parse().ok())
            && kernel_responds(ip).await
        {
            return true;
        }
        let said = self.cli().run("exec", ["-n", name, "--", "true"], self.limits().answer).await;
        said.is_ok_and(|said| said.status == Some(0))
    }
}

async fn kernel_responds(ip: IpAddr) -> bool {
    match tokio::time::timeout(PROBE_LIMIT, TcpStream::connect((ip, CLOSED_PORT))).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}
