//! Runs one of goloo's own scripts in a machine, as root.

use std::time::Duration;

use goloo_model::guest::{GuestError, RunLimits, SshTarget, excerpt};
use goloo_model::hint::Hint;
use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::engine::Engine;
use crate::verdict::AS_ROOT;

/// How long a script may take: file systems of terabytes are grown in seconds.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the script with `/bin/sh`, and returns its output. Other users of the machine can see it: what is secret is in
/// its input.
pub(crate) async fn run(
    engine: &Engine<'_>,
    record: &Record,
    script: &str,
    input: &[u8],
) -> Result<String, ProviderError> {
    let target = target(record)?;
    run_at(engine, &target, script, input, LIMIT).await
}

/// Where scripts are run in a machine.
pub(crate) fn target(record: &Record) -> Result<SshTarget, ProviderError> {
    let missing = || ProviderError::failed("there is no key for this machine", Hint::default());
    SshTarget::of(record).ok_or_else(missing)
}

/// As [`run`], for a target and a time limit that aren't the usual ones.
pub(crate) async fn run_at(
    engine: &Engine<'_>,
    target: &SshTarget,
    script: &str,
    input: &[u8],
    limit: Duration,
) -> Result<String, ProviderError> {
    let failed = |what: String| ProviderError::failed(what, Hint::default());
    let (command, limits) = (in_shell(script), RunLimits::answer(limit));
    let ran = engine.guest.run_with_input(target, &command, input, limits, &mut |_| {}).await;
    match ran {
        Ok(output) if output.status == 0 => Ok(output.stdout),
        Ok(output) => {
            let last = output.stderr.lines().rev().find(|line| !line.trim().is_empty());
            let reason = excerpt(last.unwrap_or("no reason given"));
            Err(failed(format!("the machine refuses the change: {reason}")))
        }
        Err(GuestError::Unreachable { reason, .. }) => {
            Err(failed(format!("the connection to the machine broke: {reason}")))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A command that runs the script with `/bin/sh` as root.
fn in_shell(script: &str) -> String {
    let quoted = script.replace('\'', "'\\''");
    format!("{AS_ROOT}exec $s /bin/sh -c '{quoted}'")
}
