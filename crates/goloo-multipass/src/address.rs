//! Addresses of instances. Only `list` shows them, and it queries every running guest in turn from the daemon's only
//! thread: one frozen guest blocks the daemon for everyone, and then even a forced stop comes too late. So guests are
//! first checked in ways that can't block others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::join_all;
use goloo_model::hint::NextStep;
use goloo_model::provider::Observation;
use goloo_model::record::Record;
use tokio::net::TcpStream;

use crate::context::{MultipassProvider, instance_name, observation};
use crate::errors::CallError;
use crate::json::{self, Instance, State};

/// A port without a listener: the guest's kernel refuses the connection at once, and no server in the guest logs it.
const CLOSED_PORT: u16 = 1;
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What is known about a running instance's address.
pub(crate) enum Address {
    Own(Ipv4Addr),
    /// Multipass doesn't know it yet.
    NotYet,
    /// The guest doesn't respond, so its address can't be queried.
    GuestSilent,
}

impl MultipassProvider {
    /// The address of a running instance; `known` is the recorded one.
    pub(crate) async fn address(&self, name: &str, known: Option<&str>) -> Result<Address, CallError> {
        if !self.guest_responds(name, known).await {
            return Ok(Address::GuestSilent);
        }
        Ok(self.addresses().await?.remove(name).map_or(Address::NotYet, Address::Own))
    }

    /// Each machine's current state, with its address.
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
                seen[at].reason = Some("its guest doesn't answer".to_owned());
                seen[at].hint = NextStep::force_stop(&record.name).text(" powers it off");
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

    /// Whether the guest of a running instance responds at the recorded address or another one: `exec` gets the address
    /// from the daemon and connects to the guest by itself.
    pub(crate) async fn guest_responds(&self, name: &str, known: Option<&str>) -> bool {
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
