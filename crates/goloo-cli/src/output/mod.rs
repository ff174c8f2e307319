//! Output for users and scripts. stdout has only the result; everything else goes to stderr.
//!
//! All output goes through [`Ui`], which escapes what a terminal would interpret: callers needn't know where a text
//! comes from. Only this module adds colors, and only to goloo's own marks. The screen of `goloo top` is drawn without it,
//! and escapes with [`one_line`].

mod charset;
mod column;
mod escape;
pub mod forwards;
pub mod hint;
mod mark;
mod progress;
mod state_color;
mod stdout;
mod style;
mod table;
pub mod text;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use goloo_model::events::{Event, EventContext, Events};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::CliError;
use crate::json::{ErrorReport, Printed};
use crate::options::Color;

pub use charset::{Charset, Frame};
pub use column::Column;
pub use escape::{LogText, one_line};
pub use mark::Mark;
pub use state_color::state_color;
pub use style::Style;
pub use table::Table;
pub use text::{age, bytes, diagnostic_line, duration, first, problem_line};

use progress::Progress;
use stdout::Stdout;
use style::painted;
use table::Surface;

/// The output streams. Clones share them.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    json: bool,
    /// On stderr.
    color: bool,
    /// On stdout.
    result_color: bool,
    charset: Charset,
    verbose: u8,
    progress: Progress,
    stdout: Stdout,
}

impl Ui {
    /// Reads the terminal and the environment once.
    pub fn new(color: Color, verbose: u8, json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let result_terminal = io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color_on = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !dumb && !no_color,
        };
        let (color, result_color) = (color_on(terminal), color_on(result_terminal));
        let charset = Charset::of_locale();
        let check = painted(color, Mark::Good.style(), Mark::Good.text(charset));
        let progress = Progress::new(terminal && !dumb && verbose == 0, check, charset);
        let stdout = Stdout::default();
        Self(Arc::new(Inner { json, color, result_color, charset, verbose, progress, stdout }))
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.0.json
    }

    /// Whether colours are used.
    pub fn color(&self) -> bool {
        self.0.color
    }

    /// The characters of goloo's own output.
    pub fn charset(&self) -> Charset {
        self.0.charset
    }

    /// How many `-v` were given.
    pub fn verbose(&self) -> u8 {
        self.0.verbose
    }

    /// Writes a line of the result. Further lines of the text are indented behind a bar.
    pub fn line(&self, text: &str) {
        self.stdout(&[&self.message(text), "\n"].concat());
    }

    /// Writes a line of the result with one of goloo's marks before it.
    pub fn marked_line(&self, mark: Mark, text: &str) {
        let mark = painted(self.0.result_color, mark.style(), mark.text(self.0.charset));
        self.stdout(&format!("{mark} {}\n", self.message(text)));
    }

    /// Writes a table at once: a system call per line would take most of the time of `list`. On a terminal it is made
    /// to fit.
    pub fn table(&self, table: &Table) {
        let (color, charset) = (self.0.result_color, self.0.charset);
        self.stdout(&table.lines(Surface { width: stdout::width(), color, charset }));
    }

    /// Writes text in goloo's own format, without a prefix on its lines: a schema, a help page. Untrusted parts must be
    /// validated before, or be on lines that start with goloo's own words.
    pub fn document(&self, text: &str) {
        self.stdout(&[&escape::lines(text.trim_end_matches('\n')), "\n"].concat());
    }

    /// Writes such a document in JSON.
    pub fn json_document(&self, json: &str) {
        self.stdout(&[&escape::json(json.trim_end_matches('\n')), "\n"].concat());
    }

    /// Writes untrusted text as the result, with a bar before each line.
    pub fn excerpt(&self, text: &str) {
        self.stdout(&excerpt(text, self.0.charset));
    }

    /// Writes a piece of an untrusted log, which is the result.
    pub fn log(&self, text: &mut LogText, bytes: &[u8]) {
        self.stdout(&text.push(bytes));
    }

    /// Writes the rest of the log.
    pub fn end_log(&self, text: &mut LogText) {
        self.stdout(&text.finish());
    }

    /// Writes bytes unescaped: only where the user explicitly requested raw output.
    pub fn raw(&self, bytes: &[u8]) {
        self.0.progress.suspend(|| self.0.stdout.write(bytes));
    }

    /// Whether standard output is still open.
    pub fn is_read(&self) -> bool {
        self.0.stdout.is_open()
    }

    /// Writes the result as JSON: `schema` first, then the fields of `body`.
    pub fn result(&self, body: &(impl Serialize + JsonSchema)) {
        let text = serde_json::to_string_pretty(&Printed::new(body));
        self.json_document(&text.expect("the documents have only string keys"));
    }

    /// The error of a failed write; returned once.
    pub fn unwritten(&self) -> Option<io::Error> {
        self.0.stdout.take_error()
    }

    /// Prints a note.
    pub fn note(&self, text: &str) {
        self.marked(Style::Dim, "note:", text);
    }

    /// Prints a warning.
    pub fn warning(&self, text: &str) {
        self.marked(Style::Yellow, "warning:", text);
    }

    /// Prints a line for the user on stderr.
    pub fn say(&self, text: &str) {
        self.stderr(&self.message(text));
    }

    /// Prints untrusted text on stderr, with a bar before each line.
    pub fn say_excerpt(&self, text: &str) {
        self.stderr(excerpt(text, self.0.charset).trim_end_matches('\n'));
    }

    /// Prints an error with its causes and its hint, or as JSON.
    pub fn error(&self, error: &CliError) {
        if self.json() {
            self.result(&ErrorReport { error: error.into() });
            return;
        }
        self.error_text(error);
    }

    /// Prints an error on stderr, also with `--json`.
    pub fn error_text(&self, error: &CliError) {
        if error.is_declined() {
            return self.say(&error.message);
        }
        self.marked(Style::Red, "error:", &error.message);
        for cause in &error.causes {
            self.say(&format!("  caused by: {cause}"));
        }
        for problem in &error.problems {
            self.say(&format!("  {}", problem_line(problem)));
        }
        self.marked(Style::Bold, "hint:", &error.hint);
        if let Some(json) = &error.unsaved {
            self.stderr(&escape::json(json));
        }
    }

    /// Prints a line of the log, which is escaped.
    pub fn log_line(&self, escaped: &str) {
        self.stderr(escaped);
    }

    /// Prints clap's output, which has several lines, for a command line without control characters.
    pub fn usage(&self, text: &str) {
        self.stderr(&escape::lines(text.trim_end_matches('\n')));
    }

    /// Asks on the terminal; `false` unless the answer is a clear yes.
    pub fn confirm(&self, question: &str) -> bool {
        matches!(self.ask(&format!("{question} [y/N]")).to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Asks on the terminal for text; empty without an answer.
    pub fn ask(&self, question: &str) -> String {
        self.finish();
        // A closed terminal counts as no answer.
        let _ = write!(io::stderr().lock(), "{} ", escape::one_line(question));
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(_) => answer.trim().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Prints a note that goloo is waiting for another process.
    pub fn waiting_for_lock(&self, lock: &Path) {
        self.note(&format!("waiting for another goloo process, which holds {}", lock.display()));
    }

    /// The receiver of the library's events.
    pub fn events(&self) -> Arc<dyn Events> {
        Arc::new(self.clone())
    }

    /// Removes the progress line.
    pub fn finish(&self) {
        self.0.progress.clear();
    }

    fn message<'t>(&self, text: &'t str) -> Cow<'t, str> {
        escape::message(text, self.0.charset)
    }

    /// goloo's own text in a color, where colors are on.
    fn paint(&self, style: Style, text: &str) -> String {
        painted(self.0.color, style, text)
    }

    /// Prints a line on stderr with one of goloo's marks before it.
    fn with_mark(&self, mark: Mark, text: &str) {
        self.marked(mark.style(), mark.text(self.0.charset), text);
    }

    fn marked(&self, style: Style, mark: &str, text: &str) {
        self.stderr(&format!("{} {}", self.paint(style, mark), self.message(text)));
    }

    fn stdout(&self, escaped: &str) {
        self.0.progress.suspend(|| self.0.stdout.write(escaped.as_bytes()));
    }

    /// Errors are ignored: stderr is not the result.
    fn stderr(&self, escaped: &str) {
        self.0.progress.suspend(|| {
            let _ = io::stderr().lock().write_all(&[escaped.as_bytes(), b"\n"].concat());
        });
    }
}

/// Prints what a shell asked for, as it expects it.
pub fn completions(candidates: &[u8]) {
    // A shell that went away needs no answer.
    let _ = io::stdout().lock().write_all(candidates);
}

/// Prints a line on stderr without a [`Ui`].
pub fn plain_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::one_line(text));
}

/// Makes panics print escaped messages: they may contain untrusted text.
pub fn escape_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        let traced = trace.status() == std::backtrace::BacktraceStatus::Captured;
        let text = format!("{panic}{}", if traced { format!("\n{trace}") } else { String::new() });
        let _ = writeln!(io::stderr().lock(), "goloo {}", escape::message(&text, Charset::of_locale()));
    }));
}

fn excerpt(text: &str, charset: Charset) -> String {
    let prefix = charset.continued();
    text.lines().map(|line| format!("{prefix}{}\n", escape::message(line, charset))).collect()
}

impl Events for Ui {
    fn receive(&self, context: &EventContext, event: Event) {
        let labelled = |text: &str| self.0.progress.labelled(context, text).into_owned();
        match event {
            Event::Step { what } => {
                let what = labelled(&what);
                if !self.0.progress.step(context, &escape::one_line(&what)) {
                    self.with_mark(Mark::Step, &what);
                }
            }
            Event::Progress { done, total } => self.0.progress.advance(context, done, total),
            Event::Log { line } => {
                if self.0.verbose > 0 {
                    self.with_mark(Mark::Log, &labelled(&line));
                }
            }
            Event::WaitingForLock { path } => self.waiting_for_lock(&path),
            Event::Note(text) => self.note(&labelled(&text)),
            Event::Warning(text) => self.warning(&labelled(&text)),
            Event::Hint(hint) => self.marked(Style::Bold, "hint:", &labelled(&hint::text(&hint))),
            Event::Ended { ok } => self.0.progress.end(context, ok),
        }
    }
}
