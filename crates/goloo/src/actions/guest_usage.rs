//! What a guest reports about its own memory, disk and load.

use std::time::Duration;

use goloo_model::guest::{Guest, RunLimits, SshTarget};
use goloo_model::name::VmName;
use goloo_model::provider::Provider;
use goloo_model::record::Record;
use goloo_model::store::StoreError;
use goloo_model::usage::{GuestUsage, Share};

use crate::error::Error;
use crate::session::Session;

/// A guest's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum GuestFigures {
    /// What it reports.
    Known(GuestUsage),
    /// Why there is no answer.
    Unknown(String),
}

/// Each figure on a line of its own, behind a word: a guest's shell may print other lines.
const SCRIPT: &str = r#"echo "@load $(cat /proc/loadavg)"
sed -n 's/^MemTotal:/@total/p;s/^MemAvailable:/@available/p' /proc/meminfo
df -kP / | sed -n '$s/^[^ ]*/@disk/p'"#;

impl Session {
    /// Asks the guest of a running machine what it uses: with its provider's own method if there is one, else over SSH
    /// as goloo's account. Waits no longer than `limit`.
    ///
    /// # Errors
    /// Errors of the store and of the provider's settings. A guest that doesn't answer is no error.
    pub fn guest_usage(&self, name: &VmName, limit: Duration) -> Result<GuestFigures, Error> {
        let record = self.recorded(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
        let provider = self.provider_of(&record)?;
        self.expect_same_vm(&record)?;
        // A timer can only be made on the runtime.
        let asked = self.wait_for(async {
            tokio::time::timeout(limit, self.ask_guest(&record, &*provider, limit)).await
        })?;
        Ok(asked.unwrap_or_else(|_| {
            GuestFigures::Unknown(format!("the guest doesn't answer within {} s", limit.as_secs()))
        }))
    }

    async fn ask_guest(&self, record: &Record, provider: &dyn Provider, limit: Duration) -> GuestFigures {
        if let Some(usage) = provider.usage() {
            match usage.guest(record).await {
                Ok(Some(usage)) => return GuestFigures::Known(usage),
                Ok(None) => {}
                Err(error) => return GuestFigures::Unknown(error.to_string()),
            }
        }
        let Some(target) = SshTarget::of(record) else {
            return GuestFigures::Unknown("it has no address, or no host key that is known".to_owned());
        };
        match self.guest().run(&target, SCRIPT, RunLimits::answer(limit), &mut |_| {}).await {
            Ok(output) => GuestFigures::Known(parse(&output.stdout)),
            Err(error) => GuestFigures::Unknown(error.to_string()),
        }
    }
}

/// Parses the script's output. The guest isn't trusted: figures that make no sense are left out.
fn parse(output: &str) -> GuestUsage {
    let fields = |word: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
        Some(line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let kib = |fields: Option<Vec<String>>, place: usize| -> Option<u64> {
        fields?.get(place)?.parse::<u64>().ok()?.checked_mul(1 << 10)
    };
    let memory = || {
        let (total, available) = (kib(fields("@total"), 0)?, kib(fields("@available"), 0)?);
        Some(Share { used: total.checked_sub(available)?, total })
    };
    let disk = || Some(Share { total: kib(fields("@disk"), 0)?, used: kib(fields("@disk"), 1)? });
    let load = || {
        let words = fields("@load")?;
        let averages: Vec<f64> = words.iter().take(3).filter_map(|word| word.parse().ok()).collect();
        averages.try_into().ok().filter(|load: &[f64; 3]| load.iter().all(|one| one.is_finite()))
    };
    GuestUsage { memory: memory(), disk: disk(), load: load() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let output = "Welcome!\n@load 0.10 0.05 0.01 1/89 1234\n@total         501000 kB\n@available     400000 kB\n\
                      @disk 9800000 1100000 8200000      12% /\n";
        let expected = GuestUsage {
            memory: Some(Share { used: 101_000 << 10, total: 501_000 << 10 }),
            disk: Some(Share { used: 1_100_000 << 10, total: 9_800_000 << 10 }),
            load: Some([0.10, 0.05, 0.01]),
        };
        assert_eq!(parse(output), expected);
    }

    #[test]
    fn senseless_figures_are_left_out() {
        for output in [
            "",
            "@load",
            "@load inf inf inf",
            "@load a b c",
            "@total 5 kB\n@available 6 kB",
            "@total 18446744073709551615 kB\n@available 0 kB",
            "@disk 100",
            "@disk -1 -2 -3",
            "@loadx 1 2 3",
        ] {
            assert_eq!(parse(output), GuestUsage::default(), "{output:?}");
        }
    }
}
