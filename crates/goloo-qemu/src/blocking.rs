//! Runs blocking work beside the engine, forwarding its events and passing interruptions on to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goloo_images::Watch;
use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};
use tokio::sync::{mpsc, oneshot};

struct Reporter {
    events: mpsc::UnboundedSender<Event>,
    stopped: Arc<AtomicBool>,
}

impl Watch for Reporter {
    fn event(&self, event: Event) {
        // After an interruption there is no listener anymore.
        let _ = self.events.send(event);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `job` on its own thread. After an interruption goloo doesn't wait for it: an unresponsive server must not block
/// the user, and the job's changes to the image cache are safe to abort at any point.
pub(crate) async fn watched<T: Send + 'static>(
    work: &mut dyn Work,
    job: impl FnOnce(&dyn Watch) -> T + Send + 'static,
) -> Result<T, ProviderError> {
    let (events, mut received) = mpsc::unbounded_channel();
    let (done, mut result) = oneshot::channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let reporter = Reporter { events, stopped: Arc::clone(&stopped) };
    let thread = std::thread::Builder::new().spawn(move || {
        let value = job(&reporter);
        drop(reporter);
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
    (&mut result)
        .await
        .map_err(|_| ProviderError::failed("the image cache failed unexpectedly", "please report this"))
}
