//! What a person or a script sees. stdout carries the result alone; all else goes to stderr.
//!
//! All that is printed goes through [`Ui`], which escapes what a terminal would act on: nobody who prints has to
//! know where a text is from. Colours are put around goloo's own marks here, and nowhere else.

mod escape;
mod progress;
mod stdout;
mod table;
mod text;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use goloo_core::events::{Event, Events};
use goloo_core::spec::Problem;
use goloo_store::WaitNotice;
use serde_json::{Value, json};

use crate::args::Color;
use crate::error::CliError;

pub use escape::{LogText, one_line};
pub use table::Table;
pub use text::{age, bytes, duration, first, problem_line};

use progress::Progress;
use stdout::Stdout;

/// The terminal, or what stands in its place. Clones share it.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    json: bool,
    color: bool,
    verbose: u8,
    progress: Progress,
    stdout: Stdout,
}

/// SGR codes of the few colours in use.
#[derive(Clone, Copy)]
pub enum Style {
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// What went well.
    Green,
    /// Headings.
    Bold,
    /// What may be overlooked.
    Dim,
}

impl Ui {
    /// Looks at the terminal and the environment once.
    pub fn new(color: Color, verbose: u8, json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !dumb && !no_color,
        };
        let progress = Progress::new(terminal && !dumb && verbose == 0);
        Self(Arc::new(Inner { json, color, verbose, progress, stdout: Stdout::default() }))
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.0.json
    }

    /// How many `-v` were given.
    pub fn verbose(&self) -> u8 {
        self.0.verbose
    }

    /// Writes a line of the result. More lines of the text are indented behind a bar.
    pub fn line(&self, text: &str) {
        self.stdout(&[&escape::message(text), "\n"].concat());
    }

    /// Writes a line of the result behind a mark of goloo's.
    pub fn marked_line(&self, style: Style, mark: &str, text: &str) {
        self.stdout(&format!("{} {}\n", self.paint(style, mark), escape::message(text)));
    }

    /// Writes a table at once: a system call a line would be most of the time that `list` takes.
    pub fn table(&self, table: &Table) {
        self.stdout(&table.lines());
    }

    /// Writes text in a format of goloo's whose lines begin where they do in a file: a schema, a page of help. What
    /// is in it of others must be checked before, or be on lines that begin with goloo's own words.
    pub fn document(&self, text: &str) {
        self.stdout(&[&escape::lines(text.trim_end_matches('\n')), "\n"].concat());
    }

    /// Writes the same in JSON.
    pub fn json_document(&self, json: &str) {
        self.stdout(&[&escape::json(json.trim_end_matches('\n')), "\n"].concat());
    }

    /// Writes somebody else's text, each line of it behind a bar.
    pub fn excerpt(&self, text: &str) {
        self.stdout(&excerpt(text));
    }

    /// Writes a piece of somebody's log, which is the result.
    pub fn log(&self, text: &mut LogText, bytes: &[u8]) {
        self.stdout(&text.push(bytes));
    }

    /// Writes what is left of it.
    pub fn end_log(&self, text: &mut LogText) {
        self.stdout(&text.finish());
    }

    /// Writes bytes as they are: only where the user asked for raw ones by name.
    pub fn raw(&self, bytes: &[u8]) {
        self.0.progress.suspend(|| self.0.stdout.write(bytes));
    }

    /// Whether anybody still takes results.
    pub fn is_read(&self) -> bool {
        self.0.stdout.is_open()
    }

    /// Writes the result as JSON: `schema` first, then the fields of `body`.
    pub fn result(&self, body: Value) {
        let mut whole = json!({"schema": 1});
        if let (Some(whole), Value::Object(body)) = (whole.as_object_mut(), body) {
            whole.extend(body);
        }
        self.json_document(&serde_json::to_string_pretty(&whole).expect("JSON values have only string keys"));
    }

    /// The error that kept a result from being written, once.
    pub fn unwritten(&self) -> Option<io::Error> {
        self.0.stdout.take_error()
    }

    /// Something that a person should know.
    pub fn note(&self, text: &str) {
        self.marked(Style::Dim, "note:", text);
    }

    /// Something that may be wrong.
    pub fn warning(&self, text: &str) {
        self.marked(Style::Yellow, "warning:", text);
    }

    /// A line for a person, beside the result.
    pub fn say(&self, text: &str) {
        self.stderr(&escape::message(text));
    }

    /// Somebody else's text beside the result, each line of it behind a bar.
    pub fn say_excerpt(&self, text: &str) {
        self.stderr(excerpt(text).trim_end_matches('\n'));
    }

    /// An error: what, why, what to do.
    pub fn error(&self, error: &CliError) {
        if self.json() {
            self.result(json!({"error": {
                "code": error.kind, "message": error.message, "causes": error.causes, "hint": error.hint,
                "problems": problems_json(&error.problems), "unsaved": error.unsaved,
            }}));
            return;
        }
        self.error_text(error);
    }

    /// An error that can't be told where results go.
    pub fn error_text(&self, error: &CliError) {
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

    /// clap's words, which have lines of their own, about a command line without control characters.
    pub fn usage(&self, text: &str) {
        self.stderr(&escape::lines(text.trim_end_matches('\n')));
    }

    /// Asks on the terminal; `false` when the answer isn't a clear yes.
    pub fn confirm(&self, question: &str) -> bool {
        matches!(self.ask(&format!("{question} [y/N]")).to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Asks on the terminal for words; none when nobody answers.
    pub fn ask(&self, question: &str) -> String {
        self.finish();
        // A terminal that has gone away gives no answer either.
        let _ = write!(io::stderr().lock(), "{} ", escape::one_line(question));
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(_) => answer.trim().to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Says that another process is waited for.
    pub fn waiting_for_lock(&self, lock: &Path) {
        self.note(&format!("waiting for another goloo, which holds {}", lock.display()));
    }

    /// The same for a store.
    pub fn wait_notice(&self) -> WaitNotice {
        let ui = self.clone();
        WaitNotice::new(move |lock| ui.waiting_for_lock(lock))
    }

    /// Takes the progress line away.
    pub fn finish(&self) {
        self.0.progress.clear();
    }

    /// goloo's own text in a colour, where colours are on.
    fn paint(&self, style: Style, text: &str) -> String {
        if !self.0.color {
            return text.to_owned();
        }
        let code = match style {
            Style::Red => "31;1",
            Style::Yellow => "33;1",
            Style::Green => "32;1",
            Style::Bold => "1",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line beside the result, behind a mark of goloo's.
    fn marked(&self, style: Style, mark: &str, text: &str) {
        self.stderr(&format!("{} {}", self.paint(style, mark), escape::message(text)));
    }

    fn stdout(&self, escaped: &str) {
        self.0.progress.suspend(|| self.0.stdout.write(escaped.as_bytes()));
    }

    /// Of those who read along nobody waits for it: an error here stops nothing.
    fn stderr(&self, escaped: &str) {
        self.0.progress.suspend(|| {
            let _ = io::stderr().lock().write_all(&[escaped.as_bytes(), b"\n"].concat());
        });
    }
}

/// What a process without a [`Ui`] has to say.
pub fn plain_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::one_line(text));
}

/// Lets a panic be told as all else is: its message may repeat what others wrote.
pub fn escape_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        let traced = trace.status() == std::backtrace::BacktraceStatus::Captured;
        let text = format!("{panic}{}", if traced { format!("\n{trace}") } else { String::new() });
        let _ = writeln!(io::stderr().lock(), "goloo {}", escape::message(&text));
    }));
}

fn excerpt(text: &str) -> String {
    text.lines().map(|line| format!("{}{}\n", escape::CONTINUED, escape::message(line))).collect()
}

/// Problems as `config validate --json` and errors show them.
pub fn problems_json(problems: &[Problem]) -> Value {
    let list = problems.iter().map(|problem| {
        json!({
            "file": problem.file, "pointer": problem.pointer, "line": problem.line,
            "column": problem.column, "message": problem.message, "hint": problem.hint,
        })
    });
    list.collect()
}

impl Events for Ui {
    fn event(&self, event: Event) {
        match event {
            Event::Step { what } => {
                if !self.0.progress.step(&escape::one_line(&what)) {
                    self.marked(Style::Dim, "·", &what);
                }
            }
            Event::Progress { done, total } => self.0.progress.advance(done, total),
            Event::Log { line } => {
                if self.0.verbose > 0 {
                    self.marked(Style::Dim, "│", &line);
                }
            }
            Event::Note(text) => self.note(&text),
            Event::Warning(text) => self.warning(&text),
        }
    }
}
