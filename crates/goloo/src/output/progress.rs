//! One line at the bottom of the terminal that says what is waited for.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The line; nothing at all where stderr isn't a terminal.
pub struct Progress {
    enabled: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    /// `enabled` on a terminal.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, bar: Mutex::new(None) }
    }

    /// Shows a step; `false` when there is no terminal to show it on.
    pub fn step(&self, what: &str) -> bool {
        if !self.enabled {
            return false;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg} {elapsed:.dim}"));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Some(old) = self.lock().replace(bar) {
            old.finish_and_clear();
        }
        true
    }

    /// Shows how far a transfer of `total` bytes is.
    pub fn advance(&self, done: u64, total: Option<u64>) {
        let bar = self.lock();
        let Some(bar) = bar.as_ref() else { return };
        if let Some(total) = total.filter(|_| bar.length().is_none()) {
            bar.set_length(total);
            bar.set_style(style("{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
        }
        bar.set_position(done);
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    /// Writes something above the line.
    pub fn suspend(&self, write: impl FnOnce()) {
        match self.lock().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants that parse")
}
