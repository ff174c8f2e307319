//! A thread with its own runtime, where all requests are made: leases are renewed while the caller
//! blocks, a lock can be released in a `drop`, and callers need no runtime.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// The thread; it ends when this value is dropped.
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
            // The sender never sends: this only ends when it is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    /// Runs a job on the thread to completion, even if nobody waits for it any more. Any executor can poll this;
    /// `None` if the job panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.handle.spawn(job).await.ok()
    }

    /// Runs a job on the thread until it ends or is aborted.
    pub fn keep(&self, job: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(job).abort_handle()
    }

    /// Runs a job on the thread and waits up to `limit`, without a runtime. The job continues after that.
    pub fn wait_for(&self, job: impl Future<Output = ()> + Send + 'static, limit: Duration) {
        let (done, wait) = sync_channel::<()>(1);
        self.handle.spawn(async move {
            job.await;
            drop(done);
        });
        // Whether it was done in time doesn't matter: a lease that isn't released expires.
        let (Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) =
            wait.recv_timeout(limit);
    }
}
