//! The terminal: entered, left and restored, whatever ends the program. Drawing is the only output that doesn't go through
//! [`Ui`](crate::output::Ui); `view` escapes it.

use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute, style};
use ratatui::layout::{Rect, Size};
use ratatui::{Frame, Terminal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::error::CliError;

/// Whether the terminal is in the alternate screen: one process has one terminal.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);
/// Whether a thread has panicked while it was.
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// Fails unless the user sees what is drawn and can answer.
pub fn require_terminal() -> Result<(), CliError> {
    let refused = |message: &str| Err(CliError::usage(message, "goloo list --refresh"));
    if !io::stdout().is_terminal() {
        return refused("top draws on a terminal, but standard output is not a terminal");
    }
    if !io::stdin().is_terminal() {
        return refused("top reads keys, but standard input is not a terminal");
    }
    match std::env::var_os("TERM") {
        Some(term) if !term.is_empty() && term != "dumb" => Ok(()),
        _ => refused("top needs a terminal that can move its cursor, but TERM is \"dumb\" or not set"),
    }
}

type DrawnTerminal = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// The terminal in the alternate screen. It is restored when this is dropped, and before a panic's message.
pub struct Screen {
    terminal: DrawnTerminal,
    size: Size,
}

impl Screen {
    pub fn enter(color: bool) -> io::Result<Self> {
        restore_on_panic();
        // What `--color` and NO_COLOR mean together is decided in one place, which isn't the drawing library.
        style::force_color_output(color);
        switch_on()?;
        let terminal = on_empty_screen().inspect_err(|_| restore())?;
        let size = terminal.size().inspect_err(|_| restore())?;
        Ok(Self { terminal, size })
    }

    /// Draws a picture.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if HAS_PANICKED.load(Ordering::SeqCst) {
            return Err(io::Error::other("another thread has panicked"));
        }
        self.terminal.draw(picture)?;
        Ok(())
    }

    pub fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.width, self.size.height)
    }

    /// Waits for keys, at most this long; returns those pressed, and whether the size has changed.
    pub fn wait(&mut self, limit: Duration) -> io::Result<(Vec<KeyEvent>, bool)> {
        let is_readable = wait_for_input(limit)?;
        let mut keys = Vec::new();
        while is_readable && event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                keys.push(key);
            }
        }
        let size = self.terminal.size()?;
        Ok((keys, std::mem::replace(&mut self.size, size) != size))
    }

    /// Gives the terminal to something else for a while.
    pub fn lend<T>(&mut self, use_it: impl FnOnce() -> T) -> io::Result<T> {
        restore();
        let result = use_it();
        switch_on()?;
        // Terminal::clear would ask the terminal for its cursor's position and wait for the answer.
        self.terminal = on_empty_screen()?;
        Ok(result)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn on_empty_screen() -> io::Result<DrawnTerminal> {
    // Enough for a large screen: over a network, one write is drawn at once.
    let out = BufWriter::with_capacity(64 << 10, io::stdout());
    Terminal::new(CrosstermBackend::new(out))
}

fn switch_on() -> io::Result<()> {
    IS_ENTERED.store(true, Ordering::SeqCst);
    enable_raw_mode()
        .and_then(|()| execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All), cursor::Hide))
        .inspect_err(|_| restore())
}

/// Leaves the alternate screen and shows the cursor; does nothing if that was done before. Errors have no consequence: a
/// terminal that no longer exists needs no restoring.
pub fn restore() {
    if IS_ENTERED.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    }
}

/// Panics of all threads end top: its picture may have a part that no longer changes.
fn restore_on_panic() {
    static IS_SET: Once = Once::new();
    IS_SET.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            HAS_PANICKED.store(true, Ordering::SeqCst);
            restore();
            print(panic);
        }));
    });
}

/// Whether there is input. A terminal that was closed is an error: the drawing library would read from it forever.
fn wait_for_input(limit: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut asked = [PollFd::new(&stdin, PollFlags::IN)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    match poll(&mut asked, Some(&limit)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let found = asked[0].revents();
    if found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(io::Error::other("the terminal was closed"));
    }
    Ok(found.contains(PollFlags::IN))
}
