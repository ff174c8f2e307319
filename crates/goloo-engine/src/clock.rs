//! The clock of a machine that was suspended: it continues from the time at which its memory was saved.

use std::time::Duration;

use goloo_model::events::Event;
use goloo_model::guest::{GuestError, Output, RunLimits, SshTarget, excerpt};
use goloo_model::record::Record;
use goloo_model::time::Timestamp;

use crate::engine::Engine;
use crate::verdict::AS_ROOT;

const LIMIT: Duration = Duration::from_secs(60);

/// Sets the clock of a running machine to this computer's. A failure is only said: the machine works, and most set
/// their clocks themselves after a while.
pub(crate) async fn set(engine: &Engine<'_>, record: &Record) {
    let Some(target) = SshTarget::of(record) else { return };
    let ran = engine.guest.run(&target, &command(), RunLimits::answer(LIMIT), &mut |_| {}).await;
    report(engine, record, ran);
}

/// What sets the clock to the time of now.
pub(crate) fn command() -> String {
    format!("{AS_ROOT}exec $s date -u -s @{}", Timestamp::now().unix())
}

/// Says that the clock couldn't be set.
pub(crate) fn report(engine: &Engine<'_>, record: &Record, ran: Result<Output, GuestError>) {
    let reason = match ran {
        Ok(output) if output.status == 0 => return,
        Ok(output) => excerpt(output.stderr.trim()),
        Err(error) => error.to_string(),
    };
    let text = format!(
        "the clock of \"{}\" is late, since it was suspended, and can't be set: {reason}",
        record.name
    );
    engine.events.event(Event::Warning(text));
}
