//! The hostname of a running guest, which follows its VM's name as long as nobody chose another one.

use std::time::Duration;

use goloo_model::events::Event;
use goloo_model::guest::{RunLimits, SshTarget, excerpt};
use goloo_model::name::VmName;
use goloo_model::provider::HostnameAtBoot;
use goloo_model::record::{OriginKind, Record};

use crate::engine::Engine;
use crate::verdict::AS_ROOT;

/// The limit for changing the hostname: the VM has its new name already. A busy guest takes seconds for a login.
const LIMIT: Duration = Duration::from_secs(60);

/// The hostname of a guest whose VM has a new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestHostname {
    /// The VM's new name.
    New,
    /// One that the VM's name never decided.
    Own,
    /// Unchanged until the next boot.
    NewAtBoot,
    /// Unchanged, and why.
    Unchanged {
        /// Why it couldn't be changed.
        reason: String,
    },
}

/// Gives a running guest the VM's name as its hostname, if it has the hostname `from`.
pub(crate) async fn set(
    engine: &Engine<'_>,
    record: &Record,
    from: &VmName,
    at_boot: HostnameAtBoot,
) -> GuestHostname {
    let unchanged = |reason: &str| GuestHostname::Unchanged { reason: reason.to_owned() };
    let Some(target) = SshTarget::of(record) else { return unchanged("there is no SSH access to it") };
    let script = goloo_cloudinit::squeezed(include_str!("hostname.sh"));
    let at_boot = if at_boot == HostnameAtBoot::New { "yes" } else { "''" };
    let command = format!("{AS_ROOT}set -- {from} {} {at_boot}\n{script}", record.name);
    let limits = RunLimits::answer(LIMIT);
    let mut ignore = |_: &str| {};
    let run = engine.guest.run(&target, &command, limits, &mut ignore);
    match tokio::time::timeout(LIMIT, run).await {
        Ok(Ok(output)) => match output.stdout.trim() {
            "new" => GuestHostname::New,
            "own" => GuestHostname::Own,
            _ => unchanged(&format!("its system refused: {}", excerpt(output.stderr.trim()))),
        },
        Ok(Err(error)) => unchanged(&error.to_string()),
        Err(_) => unchanged("it didn't answer in time"),
    }
}

/// A clone that continues from the memory of its source has the source's hostname until now. A failure is only said: the
/// next boot sets it.
pub(crate) async fn set_of_clone(engine: &Engine<'_>, record: &Record) {
    let Some(origin) = record.origin.as_ref().filter(|origin| origin.how == OriginKind::Cloned) else {
        return;
    };
    let Ok(source) = VmName::parse(&origin.from) else { return };
    if let GuestHostname::Unchanged { reason } = set(engine, record, &source, HostnameAtBoot::New).await {
        let name = &record.name;
        engine
            .events
            .event(Event::Warning(format!("the hostname of \"{name}\" is still {source}: {reason}")));
    }
}
