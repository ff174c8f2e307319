//! Confirmation prompts before something is lost.

use std::io::IsTerminal;

use crate::app::App;
use crate::error::CliError;

/// A confirmation prompt. `--yes` skips it; without a terminal `--yes` is required.
pub struct Question<'q> {
    /// The first half of the error without a terminal: `delete asks for confirmation`.
    pub asks: &'q str,
    /// What will be lost, one per line.
    pub lost: Vec<String>,
    /// The question itself.
    pub question: &'q str,
    /// The text that must be typed where a plain yes is not enough.
    pub words: Option<String>,
    /// The error after a no: `nothing was deleted`.
    pub declined: &'q str,
    /// The command that doesn't ask for confirmation.
    pub again: String,
}

impl Question<'_> {
    /// Like [`Self::ask`], but also prints what will be lost if there is no terminal, so that the user can decide on
    /// `--yes`.
    pub fn ask_showing(self, app: &App) -> Result<(), CliError> {
        if !std::io::stdin().is_terminal() {
            self.lost.iter().for_each(|line| app.ui.say(line));
        }
        self.ask(app)
    }

    /// `Ok` means yes.
    pub fn ask(self, app: &App) -> Result<(), CliError> {
        if !std::io::stdin().is_terminal() {
            let message = format!("{}, but standard input is not a terminal", self.asks);
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
        Err(CliError::declined(self.declined, self.again))
    }
}
