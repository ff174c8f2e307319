//! Stands in for `multipass` and its daemon, as described in docs/testing.md: the same command lines, output, streams,
//! exit statuses and messages, with the instances in the folder `GOLOO_STAND_IN_MULTIPASS`. It is strict: anything
//! goloo doesn't use is an error.
#![allow(clippy::unwrap_used, reason = "a test program: a panic is its error message")]

mod answers;
mod daemon;
mod disks;
mod guest;
mod launch;
mod line;
mod power;

use std::io::Write;
use std::process::exit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daemon::{Daemon, LIFETIME, World};
use line::{COMMAND_LINE, Line};
use serde_json::json;

const FAILED: i32 = 2;
const TIMEOUT: i32 = 5;

/// The time of the log lines.
const TIME: &str = "[2026-11-28T19:51:35.021]";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(daemon) = Daemon::from_env() else {
        eprintln!("GOLOO_STAND_IN_MULTIPASS names no folder");
        exit(COMMAND_LINE);
    };
    daemon.append("calls", &words.join(" "));
    let (command, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    if daemon.fault("hangs") || daemon.fault(&format!("hangs-at {command}")) {
        sleep(LIFETIME);
    }
    if daemon.fault("no-certificate") {
        let file = "/var/snap/multipass/common/data/multipassd/multipass_root_cert.pem";
        let error = format!("failed to open file '{file}': No such file or directory(2)");
        eprintln!("[error] [client] Caught an unhandled exception: {error}");
        exit(COMMAND_LINE);
    }
    if daemon.fault("logs") {
        eprintln!("{TIME} [warning] [client] instance \"x\" does not exist, or is being prepared");
    }
    let call = Call { daemon: &daemon, command, line: Line::parse(command, rest) };
    let is_client_s_own = rest.first().is_some_and(|word| word.starts_with("client."));
    if !is_client_s_own {
        call.reach();
    }
    call.run();
}

/// Prints `<command> failed: <message>`, and details on separate lines.
fn fail(command: &str, message: &str, details: &str) -> ! {
    eprintln!("{command} failed: {message}");
    if !details.is_empty() {
        eprintln!("{details}");
    }
    exit(FAILED)
}

fn errors(command: &str, error: &str) -> ! {
    fail(command, &format!("The following errors occurred:\n{error}"), "")
}

/// An internal error of the client.
fn exception(error: &str) -> ! {
    eprintln!("{TIME} [error] [client] Caught an unhandled exception: {error}");
    exit(COMMAND_LINE)
}

fn spin(text: &str) {
    print!("\u{1b}[2K\u{1b}[0A\u{1b}[0E{text}  \u{8}/\u{8} \u{1b}[2K\u{1b}[0A\u{1b}[0E");
    std::io::stdout().flush().unwrap();
}

struct Call<'a> {
    daemon: &'a Daemon,
    command: &'a str,
    line: Line,
}

impl Call<'_> {
    /// Why a client can't reach the daemon.
    fn unreachable(&self) -> Option<&'static str> {
        let is_down = self.fault("daemon-down") || self.daemon.is_dead();
        match () {
            () if is_down => Some("cannot connect to the multipass socket"),
            () if self.fault("access-denied") => Some("multipass socket access denied"),
            () if self.fault("not-authenticated") => Some(
                "The client is not authenticated with the Multipass service.\n\
                    Please use 'multipass authenticate' before proceeding.",
            ),
            () => None,
        }
    }

    /// Exits like a client that can't reach the daemon; otherwise returns once the daemon is free.
    fn reach(&self) {
        match self.unreachable() {
            // Without the daemon's response, the client shows its own version.
            Some(_) if self.command == "version" => {}
            Some(why) => fail(self.command, why, ""),
            None => self.daemon.wait_until_free(),
        }
    }

    fn run(&self) {
        match self.command {
            "version" => self.version(),
            "list" => self.list(),
            "info" => self.info(),
            "get" => self.get(),
            "launch" => self.launch(),
            "start" => self.start(self.line.word(0)),
            "stop" => self.stop(),
            "suspend" => self.suspend(),
            "delete" => self.delete(),
            "recover" => self.recover(),
            "purge" => self.purge(),
            "exec" => self.exec(),
            "shell" => self.shell(),
            "transfer" => self.transfer(),
            "mount" => self.mount(),
            "umount" => self.umount(),
            "set" => self.set(),
            "snapshot" => self.snapshot(),
            "restore" => self.restore(),
            "clone" if !answers::is_1_13(self.daemon) => self.clone_instance(),
            other => {
                println!(
                    "Error: Unknown command or alias '{other}' (try \"multipass help\" or \"multipass aliases\")"
                );
                exit(COMMAND_LINE);
            }
        }
    }

    fn fault(&self, fault: &str) -> bool {
        self.daemon.fault(fault)
    }

    /// The world containing this instance outside the trash; otherwise exits with Multipass's error.
    fn operative(&self, name: &str) -> (World<'_>, String) {
        let world = self.daemon.world();
        match world.state(name) {
            None => errors(self.command, &format!("instance \"{name}\" does not exist")),
            Some(state) if state == "Deleted" => {
                errors(self.command, &format!("instance \"{name}\" is deleted"))
            }
            Some(state) => (world, state),
        }
    }

    /// The same for commands with a single instance, with shorter messages.
    fn single(&self, name: &str) -> (World<'_>, String) {
        let world = self.daemon.world();
        match world.state(name) {
            None => fail(self.command, &format!("instance \"{name}\" does not exist"), ""),
            Some(state) if state == "Deleted" => {
                fail(self.command, &format!("instance \"{name}\" is deleted"), "")
            }
            Some(state) => (world, state),
        }
    }

    /// Moments at which to check the world again, until the lifetime of a test is over.
    fn moments(&self) -> impl Iterator<Item = ()> {
        let end = Instant::now() + LIFETIME;
        std::iter::from_fn(move || {
            sleep(Duration::from_millis(2));
            (Instant::now() < end).then_some(())
        })
    }

    fn version(&self) {
        let number = answers::version(self.daemon);
        let mut version = json!({"multipass": number});
        if self.unreachable().is_none() {
            version["multipassd"] = json!(number);
        }
        answers::print(self.daemon, version);
    }

    /// Queries the guests for their addresses in the daemon's only thread.
    fn list(&self) {
        let world = self.daemon.world();
        let value = match self.line.has("--snapshots") {
            true => answers::snapshot_list(&world),
            false => {
                let asks_guests = !self.line.has("--no-ipv4");
                let world = if asks_guests { self.ask_guests(world, |_| true) } else { world };
                answers::list(self.daemon, &world, asks_guests)
            }
        };
        answers::print(self.daemon, value);
    }

    fn info(&self) {
        let mut world = self.daemon.world();
        let names: Vec<String> = match self.line.words.is_empty() {
            true => world.instances.keys().filter(|name| world.state(name).is_some()).cloned().collect(),
            false => self.line.words.clone(),
        };
        let missing = |name: &&String| world.state(name).is_none();
        let missing: Vec<String> =
            names.iter().filter(missing).map(|name| format!("instance \"{name}\" does not exist")).collect();
        if !missing.is_empty() {
            errors("info", &missing.join("\n"));
        }
        let snapshots = self.line.has("--snapshots");
        let asks_guests = !snapshots && !self.line.has("--no-runtime-information");
        if asks_guests {
            world = self.ask_guests(world, |name| names.iter().any(|asked| asked == name));
            let is_up = names.iter().any(|name| world.state(name).as_deref() == Some("Running"));
            if is_up && self.fault("no-sshd") {
                fail("info", "ssh connection failed: 'Connection refused'", "");
            }
        }
        answers::print(self.daemon, answers::info(self.daemon, &world, &names, snapshots, asks_guests));
    }

    /// Runs commands in all these running guests. A frozen one blocks the daemon's thread, and every later request.
    fn ask_guests<'w>(&self, world: World<'w>, asked: impl Fn(&str) -> bool) -> World<'w> {
        let is_stuck = |name: &&String| {
            asked(name) && world.state(name).as_deref() == Some("Running") && self.daemon.is_frozen(name)
        };
        let Some(frozen) = world.instances.keys().find(is_stuck) else { return world };
        self.daemon.wait_for_guest(frozen);
        drop(world);
        self.daemon.wait_until_free();
        sleep(LIFETIME);
        exit(FAILED)
    }

    fn get(&self) {
        let key = self.line.word(0);
        if key == "client.primary-name" {
            println!("primary");
            return;
        }
        let parts: Vec<&str> = key.split('.').collect();
        let ["local", name, label, "name"] = parts[..] else {
            fail("get", &format!("Unrecognized settings key: '{key}'"), "");
        };
        let world = self.daemon.world();
        let about = "Cannot access snapshot settings";
        if world.is_preparing(name) {
            fail("get", &format!("{about}; instance: {name}; reason: instance is being prepared"), "");
        }
        if world.state(name).is_none() {
            fail("get", &format!("{about}; instance: {name}; reason: No such instance"), "");
        }
        fail("get", &format!("{about}; reason: No such snapshot: {name}.{label}"), "");
    }
}
