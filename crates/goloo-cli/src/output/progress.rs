//! The progress lines at the bottom of the terminal, one for each VM in progress.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goloo_model::events::EventContext;
use goloo_model::name::VmName;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::charset::Charset;
use super::text::duration;

/// The lines; draws nothing when stderr isn't a terminal, and still knows which VMs are in progress.
pub struct Progress {
    enabled: bool,
    /// The mark of a finished step.
    check: String,
    charset: Charset,
    lines: MultiProgress,
    running: Mutex<Vec<Running>>,
}

/// Work that has begun.
struct Running {
    /// `None` for work that concerns no VM.
    vm: Option<VmName>,
    /// Its line, once it has begun a step on a terminal.
    line: Option<ProgressBar>,
}

impl Progress {
    /// `enabled` on a terminal.
    pub fn new(enabled: bool, check: String, charset: Charset) -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { enabled, check, charset, lines, running: Mutex::default() }
    }

    /// The text, after the VM's name while several VMs are in progress.
    pub fn labelled<'t>(&self, context: &EventContext, text: &'t str) -> Cow<'t, str> {
        let mut running = self.lock();
        place_of(&mut running, context);
        let several = running.iter().filter(|work| work.vm.is_some()).count() > 1;
        match &context.vm {
            Some(vm) if several => format!("{vm}: {text}").into(),
            _ => text.into(),
        }
    }

    /// Shows a step, in one line of text; `false` when there is no terminal to show it on. The step before it is
    /// finished: it becomes a line of its own, with the time that it took.
    pub fn step(&self, context: &EventContext, what: &str) -> bool {
        if !self.enabled {
            return false;
        }
        let mut running = self.lock();
        let place = place_of(&mut running, context);
        let line = ProgressBar::new_spinner();
        line.set_style(style("{spinner} {msg} {took:.dim}", self.charset));
        line.set_message(what.to_owned());
        let line = match running[place].line.take() {
            Some(former) => {
                let line = self.lines.insert_before(&former, line);
                self.finish(&former);
                line
            }
            None => self.lines.add(line),
        };
        line.enable_steady_tick(Duration::from_millis(120));
        running[place].line = Some(line);
        true
    }

    /// Shows the progress of a transfer of `total` bytes.
    pub fn advance(&self, context: &EventContext, done: u64, total: Option<u64>) {
        let running = self.lock();
        let Some(line) =
            running.iter().find(|work| work.vm == context.vm).and_then(|work| work.line.as_ref())
        else {
            return;
        };
        if let Some(total) = total.filter(|_| line.length().is_none()) {
            line.set_length(total);
            line.set_style(style(
                "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                self.charset,
            ));
        }
        line.set_position(done);
    }

    /// Ends the line of work that is over; `ok` says whether its last step was finished.
    pub fn end(&self, context: &EventContext, ok: bool) {
        for ended in self.lock().extract_if(.., |work| work.vm == context.vm) {
            ended.line.iter().for_each(|line| if ok { self.finish(line) } else { self.remove(line) });
        }
    }

    /// Removes all lines.
    pub fn clear(&self) {
        for ended in self.lock().drain(..) {
            ended.line.iter().for_each(|line| self.remove(line));
        }
    }

    /// Writes text above the lines.
    pub fn suspend(&self, write: impl FnOnce()) {
        // Held meanwhile: no other thread may begin a line in the text.
        let running = self.lock();
        match running.iter().any(|work| work.line.is_some()) {
            true => self.lines.suspend(write),
            false => write(),
        }
    }

    /// Writes a finished step above the lines, in place of its own.
    fn finish(&self, line: &ProgressBar) {
        let text = finished(&self.check, &line.message(), line.elapsed());
        self.remove(line);
        // A terminal that can't be written to shows no progress either.
        let _ = self.lines.println(text);
    }

    fn remove(&self, line: &ProgressBar) {
        line.finish_and_clear();
        self.lines.remove(line);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where this work is among what has begun; it begins now when it isn't there.
fn place_of(running: &mut Vec<Running>, context: &EventContext) -> usize {
    running.iter().position(|work| work.vm == context.vm).unwrap_or_else(|| {
        running.push(Running { vm: context.vm.clone(), line: None });
        running.len() - 1
    })
}

/// Steps that take less than a second have no time: it would say nothing.
fn finished(check: &str, what: &str, took: Duration) -> String {
    match took.as_secs() {
        0 => format!("{check} {what}"),
        _ => format!("{check} {what} ({})", duration(took)),
    }
}

fn style(template: &str, charset: Charset) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates are constants that parse");
    let style = style.tick_chars(charset.spinner()).progress_chars("#> ");
    style.with_key("took", |state: &ProgressState, text: &mut dyn fmt::Write| {
        let _ = text.write_str(&duration(state.elapsed()));
    })
}

#[cfg(test)]
mod tests {
    use goloo_testkit::samples::name;

    use super::*;

    #[test]
    fn the_vm_is_named_while_several_are_in_progress() {
        let progress = Progress::new(false, "✓".to_owned(), Charset::Utf8);
        let (web, db) = (EventContext::of(&name("web"), None), EventContext::of(&name("db"), None));
        let label = |context: &EventContext, text: &str| progress.labelled(context, text).into_owned();
        assert_eq!(label(&web, "starting"), "starting");
        assert_eq!(label(&EventContext::default(), "downloading"), "downloading");
        assert_eq!(label(&web, "waiting"), "waiting", "work without a VM isn't another VM");
        assert_eq!(label(&db, "starting"), "db: starting");
        assert_eq!(label(&web, "waiting"), "web: waiting");
        assert_eq!(label(&EventContext::default(), "downloading"), "downloading");
        progress.end(&db, true);
        assert_eq!(label(&web, "waiting"), "waiting");
        label(&db, "stopping");
        progress.clear();
        assert_eq!(label(&db, "stopping"), "stopping");
    }

    #[test]
    fn a_finished_step_has_a_mark_and_its_time() {
        let line = |millis| finished("✓", "starting QEMU", Duration::from_millis(millis));
        assert_eq!(line(900), "✓ starting QEMU");
        assert_eq!(line(65_000), "✓ starting QEMU (1 min 5 s)");
    }

    #[test]
    fn each_vm_in_progress_has_a_line_of_its_own() {
        let progress = Progress::new(true, "✓".to_owned(), Charset::Utf8);
        progress.lines.set_draw_target(ProgressDrawTarget::hidden());
        let (web, db) = (EventContext::of(&name("web"), None), EventContext::of(&name("db"), None));
        let shown = || {
            let message = |work: &Running| work.line.as_ref().map(ProgressBar::message);
            progress.lock().iter().filter_map(message).collect::<Vec<_>>()
        };
        for (context, step) in [(&web, "creating the disk"), (&db, "stopping"), (&web, "starting")] {
            assert!(progress.step(context, step));
        }
        assert_eq!(shown(), ["starting", "stopping"]);
        progress.advance(&db, 10, Some(100));
        progress.end(&web, false);
        assert_eq!(shown(), ["stopping"]);
        assert_eq!(progress.lock()[0].line.as_ref().map(ProgressBar::position), Some(10));
    }
}
