//! What a person or a script sees. stdout carries the result alone; all else goes to stderr.

mod progress;
mod table;
mod text;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use goloo_core::events::{Event, Events};
use goloo_core::spec::Problem;
use goloo_store::WaitNotice;
use serde_json::{Value, json};

use crate::args::Color;
use crate::error::CliError;

pub use table::Table;
pub use text::{age, bytes, duration, problem_line};

use progress::Progress;

/// The terminal, or what stands in its place. Clones share it.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    json: bool,
    color: bool,
    verbose: u8,
    progress: Progress,
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
        let terminal = std::io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !dumb && !no_color,
        };
        let progress = Progress::new(terminal && !dumb && verbose == 0);
        Self(Arc::new(Inner { json, color, verbose, progress }))
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.0.json
    }

    /// How many `-v` were given.
    pub fn verbose(&self) -> u8 {
        self.0.verbose
    }

    /// Writes a line of the result.
    pub fn line(&self, text: &str) {
        self.0.progress.suspend(|| {
            // A reader that has gone away wants no more lines; the operation goes on.
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        });
    }

    /// Writes many lines of the result at once, each with its end: a system call a line would be most
    /// of the time that `list` takes.
    pub fn lines(&self, lines: &str) {
        self.0.progress.suspend(|| {
            let _ = std::io::stdout().lock().write_all(lines.as_bytes());
        });
    }

    /// Writes the result as JSON: `schema` first, then the fields of `body`.
    pub fn result(&self, body: Value) {
        let mut whole = json!({"schema": 1});
        if let (Some(whole), Value::Object(body)) = (whole.as_object_mut(), body) {
            whole.extend(body);
        }
        self.line(&serde_json::to_string_pretty(&whole).expect("JSON values have only string keys"));
    }

    /// Something that a person should know.
    pub fn note(&self, text: &str) {
        self.stderr(&format!("{} {text}", self.paint(Style::Dim, "note:")));
    }

    /// Something that may be wrong.
    pub fn warning(&self, text: &str) {
        self.stderr(&format!("{} {text}", self.paint(Style::Yellow, "warning:")));
    }

    /// A line for a person, beside the result.
    pub fn say(&self, text: &str) {
        self.stderr(text);
    }

    /// An error: what, why, what to do.
    pub fn error(&self, error: &CliError) {
        if self.json() {
            self.result(json!({"error": {
                "code": error.kind, "message": error.message, "causes": error.causes, "hint": error.hint,
                "problems": problems_json(&error.problems),
            }}));
            return;
        }
        self.stderr(&format!("{} {}", self.paint(Style::Red, "error:"), error.message));
        for cause in &error.causes {
            self.stderr(&format!("  caused by: {cause}"));
        }
        for problem in &error.problems {
            self.stderr(&format!("  {}", problem_line(problem)));
        }
        self.stderr(&format!("{} {}", self.paint(Style::Bold, "hint:"), error.hint));
    }

    /// Asks on the terminal; `false` when the answer isn't a clear yes.
    pub fn confirm(&self, question: &str) -> bool {
        matches!(self.ask(&format!("{question} [y/N]")).to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Asks on the terminal for words; none when nobody answers.
    pub fn ask(&self, question: &str) -> String {
        self.finish();
        eprint!("{question} ");
        let mut answer = String::new();
        match std::io::stdin().read_line(&mut answer) {
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

    /// The text in a colour, where colours are on.
    pub fn paint(&self, style: Style, text: &str) -> String {
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

    fn stderr(&self, text: &str) {
        self.0.progress.suspend(|| {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }
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
                if !self.0.progress.step(&what) {
                    self.stderr(&format!("{} {what}", self.paint(Style::Dim, "·")));
                }
            }
            Event::Progress { done, total } => self.0.progress.advance(done, total),
            Event::Log { line } => {
                if self.0.verbose > 0 {
                    self.stderr(&format!("{} {line}", self.paint(Style::Dim, "│")));
                }
            }
            Event::Note(text) => self.note(&text),
            Event::Warning(text) => self.warning(&text),
        }
    }
}
