//! A terminal with the real command in it: tmux tells what is on the screen and in which state the terminal is.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{World, wait_until};

/// A shell in a terminal.
pub struct Terminal<'w> {
    pub world: &'w World,
    /// tmux's own socket: nothing is shared with a tmux of the person who runs the tests.
    socket: PathBuf,
}

impl<'w> Terminal<'w> {
    /// Of 80×24.
    pub fn open(world: &'w World) -> Self {
        Self::of_size(world, 80, 24)
    }

    pub fn of_size(world: &'w World, width: u32, height: u32) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let socket = world.path().join(format!("tmux-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let terminal = Self { world, socket };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, "sh"]);
        terminal
    }

    pub fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        self.world.settle(&mut command);
        command.env("LC_ALL", "C.UTF-8").env("PS1", "$ ").env("SHELL", "/bin/sh").stdin(Stdio::null());
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(arguments);
        let ran = command.output().unwrap_or_else(|error| panic!("tmux (make set-up-test): {error}"));
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    /// Types text.
    pub fn keys(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key that has a name.
    pub fn key(&self, name: &str) {
        self.tmux(&["send-keys", name]);
    }

    pub fn run(&self, line: &str) {
        self.keys(line);
        self.key("Enter");
    }

    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    pub fn shows(&self, what: &str, text: &str) {
        self.until(what, |screen| screen.contains(text));
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut(&str) -> bool) {
        let mut screen = String::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, || {
                screen = self.screen();
                condition(&screen)
            });
        }));
        assert!(shown.is_ok(), "never: {what}; the screen:\n{screen}");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // Ends what runs in it, by SIGHUP.
        self.tmux(&["kill-server"]);
    }
}
