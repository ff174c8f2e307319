//! Asking before something is lost.

use std::io::IsTerminal;

use crate::app::App;
use crate::error::CliError;
use crate::exit;

/// What a person is asked. `--yes` spares the question; without a terminal it is wanted.
pub struct Question<'q> {
    /// What asks, and before what: `delete asks before it deletes`.
    pub asks: &'q str,
    /// What will be lost, a line each.
    pub lost: Vec<String>,
    /// The question itself.
    pub question: &'q str,
    /// What must be typed, where a yes is too easily said.
    pub words: Option<String>,
    /// What a no means: `nothing was deleted`.
    pub declined: &'q str,
    /// The command that doesn't ask.
    pub again: String,
}

impl Question<'_> {
    /// The same, with what is at stake also shown where there is no terminal: it decides whether `--yes` is right.
    pub fn ask_showing(self, app: &App) -> Result<(), CliError> {
        if !std::io::stdin().is_terminal() {
            self.lost.iter().for_each(|line| app.ui.say(line));
        }
        self.ask(app)
    }

    /// `Ok` is a yes.
    pub fn ask(self, app: &App) -> Result<(), CliError> {
        if !std::io::stdin().is_terminal() {
            let message = format!("{}, and there is no terminal to ask on", self.asks);
            return Err(CliError::usage(message, self.again));
        }
        self.lost.iter().for_each(|line| app.ui.say(line));
        let agreed = match &self.words {
            None => app.ui.confirm(self.question),
            Some(words) => app.ui.ask(&format!("{} Type {words}:", self.question)) == *words,
        };
        if agreed {
            return Ok(());
        }
        Err(CliError::new(exit::INTERRUPTED, "declined", self.declined, self.again))
    }
}
