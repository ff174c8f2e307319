//! `goloo top`

mod columns;
mod end_request;
mod event_loop;
#[cfg(test)]
mod fixtures;
mod keys;
mod model;
mod rows;
mod screen;
mod tasks;
mod view;

use std::sync::mpsc;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use end_request::EndRequest;
use event_loop::EventLoop;
use model::Message;
use screen::Screen;
use tasks::Tasks;
use view::Theme;

pub fn run(app: &App) -> Result<u8, CliError> {
    screen::require_terminal()?;
    app.warn_of_move()?;
    let cannot = |error: std::io::Error| {
        CliError::failed("can't use the terminal", "run `goloo list --refresh` instead").because(&error)
    };
    let (sender, messages) = mpsc::channel();
    let end = EndRequest::watch().map_err(cannot)?;
    let mut tasks = Tasks::start(sender).map_err(cannot)?;
    let theme = Theme { color: app.ui.color(), charset: app.ui.charset() };
    let mut screen = Screen::enter(theme.color).map_err(cannot)?;
    let ended = EventLoop {
        screen: &mut screen,
        tasks: &mut tasks,
        messages: &messages,
        end: &end,
        theme,
        ui: &app.ui,
    }
    .run();
    drop(screen);
    if tasks.is_busy() {
        app.ui.note("stopping after the current call; press Ctrl-C to exit immediately");
    }
    tasks.stop();
    // What the operations have done, or left.
    let mut code = exit::DONE;
    for message in messages.try_iter() {
        match message {
            Message::Ended(_, Ok(done)) => app.ui.say(&done),
            Message::Ended(_, Err(error)) => {
                app.ui.error(&error);
                code = error.code;
            }
            _ => {}
        }
    }
    let is_signalled = ended?;
    Ok(if code == exit::DONE && is_signalled { exit::INTERRUPTED } else { code })
}
