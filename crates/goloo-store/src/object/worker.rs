//! A thread with a runtime of its own, where all requests are made: leases are renewed while the caller
//! blocks, a lock can be released in a `drop`, and callers need no runtime.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// The thread; it ends when this is dropped.
pub(super) struct Worker {
    handle: Handle,
    /// Closing it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("object-store".to_owned()).spawn(move || {
            // The sender never sends: what comes is its end.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    /// Runs a job there to its end, even when nobody waits for it any more. Any executor can poll this;
    /// `None` when the job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.handle.spawn(job).await.ok()
    }

    /// Runs a job there until it ends or is aborted.
    pub fn keep(&self, job: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(job).abort_handle()
    }

    /// Runs a job there and waits for so long, without a runtime. The job goes on when that is over.
    pub fn wait_for(&self, job: impl Future<Output = ()> + Send + 'static, limit: Duration) {
        let (done, wait) = sync_channel::<()>(1);
        self.handle.spawn(async move {
            job.await;
            drop(done);
        });
        // Whether it was done in time is no matter: a lease that isn't given back ends by itself.
        let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) =
            wait.recv_timeout(limit);
    }
}
