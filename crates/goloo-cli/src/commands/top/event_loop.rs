//! The event loop: takes keys and news, changes the model, draws it, and starts what that requires.

use std::io;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use goloo_model::name::VmName;
use goloo_model::time::Timestamp;

use super::end_request::EndRequest;
use super::keys;
use super::model::{Effect, Message, Model};
use super::screen::Screen;
use super::tasks::Tasks;
use super::view::{self, Theme};
use crate::error::CliError;
use crate::exit;
use crate::output::Ui;

/// How long news may wait to be drawn. Keys don't wait.
const TICK: Duration = Duration::from_millis(100);
/// How often ages are drawn again when nothing changes.
const REDRAW: Duration = Duration::from_secs(1);

pub struct EventLoop<'l> {
    pub screen: &'l mut Screen,
    pub tasks: &'l mut Tasks,
    pub messages: &'l Receiver<Message>,
    pub end: &'l EndRequest,
    pub theme: Theme,
    pub ui: &'l Ui,
}

impl EventLoop<'_> {
    /// Runs until the user quits. Returns whether a signal was the reason.
    pub fn run(mut self) -> Result<bool, CliError> {
        let mut model = Model::new(Instant::now());
        let mut drawn = None;
        let mut is_changed = true;
        loop {
            if self.end.is_made() {
                return Ok(true);
            }
            if is_changed || drawn.is_none_or(|at: Instant| at.elapsed() >= REDRAW) {
                self.draw(&mut model).map_err(lost)?;
                drawn = Some(Instant::now());
            }
            let (keys, is_resized) = self.screen.wait(TICK).map_err(lost)?;
            is_changed = is_resized || !keys.is_empty();
            for key in keys {
                let action = keys::action(model.key_context(), &key);
                let effect = action.and_then(|action| model.act(action, Instant::now()));
                if self.perform(effect, &mut model)? {
                    return Ok(false);
                }
            }
            for message in self.messages.try_iter() {
                if let Message::WatchFailed(error) = message {
                    return Err(error);
                }
                is_changed = true;
                if let Some(Effect::Refresh) = model.receive(message, Instant::now()) {
                    self.tasks.refresh();
                }
            }
            let question = model.guest_question(Instant::now());
            self.perform(question, &mut model)?;
        }
    }

    fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        model.set_page(view::page(self.screen.area(), model));
        let theme = self.theme;
        self.screen.draw(|frame| view::draw(frame, model, theme, Timestamp::now()))
    }

    /// Returns whether it was the last one.
    fn perform(&mut self, effect: Option<Effect>, model: &mut Model) -> Result<bool, CliError> {
        match effect {
            None => {}
            Some(Effect::Quit) => return Ok(true),
            Some(Effect::Refresh) => self.tasks.refresh(),
            Some(Effect::Operate(operation)) => self.tasks.operate(operation),
            Some(Effect::AskGuest(id, name)) => self.tasks.ask_guest(id, name),
            Some(Effect::Ssh(name)) => self.run_command(&["ssh"], &name, model)?,
            Some(Effect::Logs(name)) => self.run_command(&["logs", "--follow"], &name, model)?,
        }
        Ok(false)
    }

    /// Runs a command of goloo in the foreground, as a program of its own: it may become `ssh`, and end itself.
    fn run_command(&mut self, words: &[&str], name: &VmName, model: &mut Model) -> Result<(), CliError> {
        let (end, ui, color) = (self.end, self.ui, if self.theme.color { "always" } else { "never" });
        let ran = self.screen.lend(|| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--color", color]).args(words).arg(name.as_str());
            let status = end.wait_for(command.spawn()?)?;
            // Its message would disappear with the screen. Ctrl-C is how the user ends a log.
            if !status.success() && status.code() != Some(i32::from(exit::INTERRUPTED)) && !end.is_made() {
                ui.ask("press Enter to return to goloo top");
            }
            Ok::<_, io::Error>(())
        });
        if let Err(error) = ran.map_err(lost)? {
            let error = CliError::failed(format!("can't run goloo {}", words.join(" ")), "goloo doctor")
                .because(&error);
            model.fail(&error);
        }
        Ok(())
    }
}

fn lost(error: io::Error) -> CliError {
    CliError::failed("can't draw on the terminal", "run `goloo list` to see the VMs").because(&error)
}
