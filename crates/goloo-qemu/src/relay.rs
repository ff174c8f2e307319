//! Blocking work beside the engine: its events come through, and an interruption reaches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use tokio::sync::{mpsc, oneshot};

use crate::image::Watch;

struct Relay {
    events: mpsc::UnboundedSender<Event>,
    stopped: Arc<AtomicBool>,
}

impl Watch for Relay {
    fn event(&self, event: Event) {
        // Nobody listens any more after an interruption.
        let _ = self.events.send(event);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `job` on a thread of its own. After an interruption nobody waits for it: a server that
/// doesn't answer must not hold up the user, and what the job does to the image cache is safe to
/// break off anywhere.
pub(crate) async fn watched<T: Send + 'static>(
    work: &mut dyn Work,
    job: impl FnOnce(&dyn Watch) -> T + Send + 'static,
) -> Result<T, ProviderError> {
    let (events, mut received) = mpsc::unbounded_channel();
    let (done, mut result) = oneshot::channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let relay = Relay { events, stopped: Arc::clone(&stopped) };
    let thread = std::thread::Builder::new().spawn(move || {
        let value = job(&relay);
        drop(relay);
        let _ = done.send(value);
    });
    thread.map_err(|source| {
        let hint = goloo_command::shortage_hint(&source).unwrap_or("try again");
        ProviderError::caused("no thread can be started for the image cache", hint, source)
    })?;
    loop {
        tokio::select! {
            biased;
            event = received.recv() => match event {
                Some(event) => work.events().event(event),
                None => break,
            },
            () = work.interruption() => {
                stopped.store(true, Ordering::Relaxed);
                return Err(ProviderError::Interrupted);
            }
        }
    }
    (&mut result).await.map_err(|_| ProviderError::failed("the image cache broke down", "please report this"))
}
