//! Stands in for `multipass` and its daemon, as docs/testing.md describes: the same command lines, answers,
//! streams, exit statuses and words, with the instances in the folder `GOLOO_STAND_IN_MULTIPASS`. It is
//! strict: what goloo has no use for is an error.
#![allow(clippy::unwrap_used, reason = "a test program: a panic is its error message")]

mod answers;
mod daemon;

use std::io::{Read, Write};
use std::process::exit;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daemon::{Daemon, IMAGES, World, now};
use serde_json::{Value, json};

/// No test lasts so long; one that is killed leaves nothing for ever.
const LIFETIME: Duration = Duration::from_secs(300);

const COMMAND_LINE: i32 = 1;
const FAILED: i32 = 2;
const TIMEOUT: i32 = 5;

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
    let own = command == "version" || rest.first().is_some_and(|word| word.starts_with("client."));
    if daemon.fault("daemon-down") && !own {
        let socket = "/var/snap/multipass/common/multipass_socket";
        let details = format!("Please ensure multipassd is running and '{socket}' is accessible");
        fail(command, "cannot connect to the multipass socket", &details);
    }
    let call = Call { daemon: &daemon, command, line: Line::parse(command, rest) };
    call.run();
}

/// `<command> failed: <message>`, and details on lines of their own.
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

fn spin(text: &str) {
    print!("\u{1b}[2K\u{1b}[0A\u{1b}[0E{text}  \u{8}/\u{8} \u{1b}[2K\u{1b}[0A\u{1b}[0E");
    std::io::stdout().flush().unwrap();
}

/// A command line, taken apart.
#[derive(Default)]
struct Line {
    options: Vec<(String, String)>,
    words: Vec<String>,
}

impl Line {
    /// Options with a value, per command; every other one has none. Behind `--` come words alone.
    fn parse(command: &str, rest: &[String]) -> Self {
        let valued: &[&str] = match command {
            "launch" => &["--name", "--cpus", "--memory", "--disk", "--cloud-init", "--timeout"],
            "list" | "info" | "version" | "find" | "networks" => &["--format"],
            "snapshot" | "clone" => &["--name"],
            _ => &[],
        };
        let plain: &[&str] = match command {
            "list" | "info" => &["--snapshots"],
            "stop" => &["--force"],
            "delete" => &["--purge"],
            "restore" => &["--destructive"],
            "exec" => &["-n"],
            "transfer" => &["-r"],
            _ => &[],
        };
        let mut line = Self::default();
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--" => line.words.extend(rest.by_ref().cloned()),
                option if valued.contains(&option) => {
                    let value = rest.next().cloned().unwrap_or_else(|| unknown_option(option));
                    line.options.push((option.to_owned(), value));
                }
                option if plain.contains(&option) => line.options.push((option.to_owned(), String::new())),
                option if option.starts_with("--") => unknown_option(option),
                other => line.words.push(other.to_owned()),
            }
        }
        line
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or_else(
            || {
                eprintln!("Wrong number of arguments");
                exit(COMMAND_LINE)
            },
            String::as_str,
        )
    }
}

fn unknown_option(option: &str) -> ! {
    eprintln!("Unknown option '{}'.", option.trim_start_matches('-'));
    exit(COMMAND_LINE)
}

struct Call<'a> {
    daemon: &'a Daemon,
    command: &'a str,
    line: Line,
}

impl Call<'_> {
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
            "snapshot" => self.snapshot(),
            "restore" => self.restore(),
            "clone" if !answers::is_old(self.daemon) => self.clone_instance(),
            other => {
                println!("Error: Unknown command or alias '{other}' (try \"multipass help\")");
                exit(COMMAND_LINE);
            }
        }
    }

    fn fault(&self, fault: &str) -> bool {
        self.daemon.fault(fault)
    }

    /// The world with this instance in it, not in the trash; else it ends as Multipass does.
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

    /// The same where one alone is named, with shorter words.
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

    fn version(&self) {
        let number = if answers::is_old(self.daemon) { "1.13.1" } else { "1.17.0" };
        let mut version = json!({"multipass": number});
        if !self.fault("daemon-down") {
            version["multipassd"] = json!(number);
        }
        answers::print(self.daemon, version);
    }

    fn list(&self) {
        let world = self.daemon.world();
        let value = match self.line.has("--snapshots") {
            true => answers::snapshot_list(&world),
            false => answers::list(self.daemon, &world),
        };
        answers::print(self.daemon, value);
    }

    fn info(&self) {
        let name = self.line.word(0);
        let world = self.daemon.world();
        if world.state(name).is_none() {
            errors("info", &format!("instance \"{name}\" does not exist"));
        }
        answers::print(self.daemon, answers::info(self.daemon, &world, name, self.line.has("--snapshots")));
    }

    fn get(&self) {
        let key = self.line.word(0);
        if key == "client.primary-name" {
            println!("primary");
            return;
        }
        let parts: Vec<&str> = key.split('.').collect();
        let ["local", name, label, "name"] = parts[..] else {
            eprintln!("Unrecognized settings key: '{key}'");
            exit(COMMAND_LINE);
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

    fn launch(&self) {
        let image = self.line.words.first().map_or("lts", String::as_str);
        let name = self.line.option("--name").unwrap_or("sensible-name").to_owned();
        spin(&format!("Launching {name}"));
        let user_data = self.user_data();
        {
            let mut world = self.daemon.world();
            self.check_launch(&world, image, &name);
            let option = |option: &str, default: &str| self.line.option(option).unwrap_or(default).to_owned();
            let settings = json!({
                "image": image, "cpus": option("--cpus", "1"), "memory": option("--memory", "1G"),
                "disk": option("--disk", "5G"), "userData": user_data,
            });
            world.launch(&name, settings);
        }
        if self.fault("client-dies") {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        self.wait_for_launch(&name);
        spin("");
        println!("Launched: {name}");
    }

    /// What comes on standard input, if it is YAML as far as this program can tell.
    fn user_data(&self) -> String {
        const FAILURE: &str = "Could not load cloud-init configuration";
        let text = match self.line.option("--cloud-init") {
            None => return String::new(),
            Some("-") => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).unwrap();
                text
            }
            Some(path) => std::fs::read_to_string(path).unwrap_or_else(|_| {
                eprintln!("{FAILURE}: bad file: {path}\nPlease ensure that Multipass can read it.");
                exit(COMMAND_LINE)
            }),
        };
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        for (index, line) in text.lines().enumerate() {
            let parts: Vec<&str> = line.trim_start().splitn(3, ": ").collect();
            if let [key, value, _] = parts[..]
                && word(key)
                && word(value)
            {
                let column = line.len() - line.trim_start().len() + key.len() + value.len() + 3;
                let at = format!("line {}, column {column}", index + 1);
                eprintln!("{FAILURE}: yaml-cpp: error at {at}: illegal map value");
                exit(COMMAND_LINE);
            }
        }
        text
    }

    /// In the daemon's order.
    fn check_launch(&self, world: &World<'_>, image: &str, name: &str) {
        let known = IMAGES.contains(&image) || image.starts_with("file://") || image.starts_with("http");
        if !known {
            fail("launch", &format!("Unable to find an image matching \"{image}\" in remote \"\"."), "");
        }
        let invalid = |what: &str, value: &str| -> ! {
            fail("launch", "Invalid arguments supplied", &format!("Invalid {what} supplied: {value}"))
        };
        for (option, least, what) in
            [("--memory", 512 << 20, "memory size value"), ("--disk", 1 << 30, "disk size value")]
        {
            let given = self.line.option(option);
            if given.is_some_and(|given| bytes(given).is_none_or(|bytes| bytes < least)) {
                invalid(what, &format!("{}.", given.unwrap()));
            }
        }
        if !is_name(name) {
            invalid("instance name", name);
        }
        if world.state(name).is_some() {
            fail("launch", &format!("instance \"{name}\" already exists"), "");
        }
        if world.is_preparing(name) {
            fail("launch", &format!("instance \"{name}\" is being prepared"), "");
        }
    }

    fn wait_for_launch(&self, name: &str) {
        let seconds = self.line.option("--timeout").map(|text| text.parse().unwrap());
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        for _ in self.moments() {
            if end.is_some_and(|end| Instant::now() >= end) {
                eprintln!("Timed out waiting for instance launch.");
                exit(TIMEOUT);
            }
            let world = self.daemon.world();
            match world.state(name).as_deref() {
                None if world.is_preparing(name) => {}
                None => fail("launch", "Aborted download", ""),
                Some("Unknown") => errors("launch", &format!("{name}: timed out waiting for response")),
                Some("Running") if self.fault("never-initialized") => {
                    errors("launch", "timed out waiting for initialization to complete");
                }
                Some("Running") if !self.fault("initializes") => return,
                _ => {}
            }
        }
    }

    /// Moments to look at the world again, until a test's time is over.
    fn moments(&self) -> impl Iterator<Item = ()> {
        let end = Instant::now() + LIFETIME;
        std::iter::from_fn(move || {
            sleep(Duration::from_millis(2));
            (Instant::now() < end).then_some(())
        })
    }

    fn start(&self, name: &str) {
        spin(&format!("Starting {name}"));
        {
            let mut world = self.daemon.world();
            match world.state(name).as_deref() {
                None if name == "primary" => {
                    world.launch(name, json!({"image": "lts", "cpus": "1", "userData": ""}));
                }
                None => fail("start", "instance(s) missing", &format!("Instance '{name}' does not exist.")),
                Some("Deleted") => {
                    let use_ = "Use 'recover' to recover it or 'purge' to permanently delete it.";
                    fail("start", "instance(s) missing", &format!("Instance '{name}' is deleted. {use_}"));
                }
                Some("Unknown") => errors(
                    "start",
                    &format!(
                        "Instance '{name}' is already running, but in an unknown state.\nTry to stop it first."
                    ),
                ),
                Some("Running") => return,
                Some(_) => {
                    world.touch("start", name);
                    world.set(name, "Starting");
                }
            }
        }
        for _ in self.moments() {
            match self.daemon.world().state(name).as_deref() {
                Some("Running") => return,
                Some("Unknown") => errors("start", &format!("{name}: timed out waiting for response")),
                _ => {}
            }
        }
    }

    fn stop(&self) {
        let (name, force) = (self.line.word(0), self.line.has("--force"));
        spin(&format!("Stopping {name}"));
        let (mut world, state) = self.operative(name);
        let refused = |why: &str| fail("stop", why, "Use --force to power it off.");
        match state.as_str() {
            "Suspended" if !force => refused(&format!("Cannot shut down suspended instance {name}.")),
            "Starting" if !force => refused(&format!("Cannot shut down instance {name} while starting.")),
            "Running" if !force && self.fault("deaf") => {
                drop(world);
                sleep(LIFETIME);
            }
            _ => {
                world.touch("stop", name);
                world.set(name, "Stopped");
            }
        }
    }

    fn suspend(&self) {
        let name = self.line.word(0);
        spin(&format!("Suspending {name}"));
        let (mut world, state) = self.operative(name);
        world.touch("suspend", name);
        if state == "Running" {
            world.set(name, "Suspended");
        }
    }

    fn delete(&self) {
        let (what, purge) = (self.line.word(0), self.line.has("--purge"));
        let (name, label) = what.split_once('.').map_or((what, None), |(name, label)| (name, Some(label)));
        let mut world = self.daemon.world();
        if world.state(name).is_none() {
            errors("delete", &format!("instance \"{name}\" does not exist"));
        }
        match (label, purge) {
            (None, true) => world.purge(name),
            (None, false) => {
                world.touch("delete", name);
                let instance = world.instances.get_mut(name).unwrap();
                instance["deleted"] = json!(true);
                instance["state"] = json!("Stopped");
                world.save();
            }
            (Some(label), true) => {
                world.touch("delete a snapshot of", name);
                let snapshots = world.instances.get_mut(name).unwrap()["snapshots"].as_array_mut().unwrap();
                let count = snapshots.len();
                snapshots.retain(|snapshot| snapshot["label"] != label);
                if snapshots.len() == count {
                    fail("delete", &format!("No such snapshot: {name}.{label}"), "");
                }
                world.save();
            }
            (Some(_), false) => {
                eprintln!("Snapshots can only be purged (after deletion, they cannot be recovered).");
                exit(FAILED);
            }
        }
    }

    fn recover(&self) {
        let name = self.line.word(0);
        let mut world = self.daemon.world();
        if world.state(name).is_none() {
            errors("recover", &format!("instance \"{name}\" does not exist"));
        }
        world.touch("recover", name);
        world.instances.get_mut(name).unwrap()["deleted"] = json!(false);
        world.save();
    }

    /// Everybody's trash.
    fn purge(&self) {
        self.daemon.append("violations", "purge of everybody's trash");
        let mut world = self.daemon.world();
        world.instances.retain(|_, instance| instance["deleted"] != true);
        world.save();
    }

    fn exec(&self) {
        let name = self.line.word(0);
        let state = self.operative(name).1;
        if state != "Running" {
            self.start(name);
        }
        if self.fault("no-login") {
            eprintln!("exec failed: ssh connection failed: 'Connection refused'");
            exit(255);
        }
        let (world, _) = self.operative(name);
        let words: Vec<&str> = self.line.words[1..].iter().map(String::as_str).collect();
        let words = words.strip_prefix(&["sudo", "-n"]).unwrap_or(&words);
        match words {
            ["cat", "/var/lib/cloud/instance/user-data.txt"] if self.fault("no-user-data") => exit(1),
            ["cat", "/var/lib/cloud/instance/user-data.txt"] if self.fault("late-user-data") => {}
            ["cat", "/var/lib/cloud/instance/user-data.txt"] => print_user_data(&world.instances[name]),
            ["cat", "/var/log/cloud-init-output.log"] | ["tail", .., "/var/log/cloud-init-output.log"] => {
                println!("the log of {name}");
            }
            ["sh", "-c", line] if line.contains("/var/log/cloud-init-output.log") => {
                println!("the log of {name}");
            }
            ["python3", "-c", line] if line.contains("user-data.txt") && line.contains("bootcmd") => {
                self.daemon.append("restored", name);
            }
            ["cloud-init", "status", ..] => println!(r#"{{"status": "done", "errors": []}}"#),
            ["echo", rest @ ..] => println!("{}", rest.join(" ")),
            ["true"] => {}
            ["false"] => exit(1),
            other => {
                eprintln!("{}: command not found", other.first().unwrap_or(&""));
                exit(127);
            }
        }
    }

    fn shell(&self) {
        let name = self.line.word(0);
        self.operative(name);
        println!("a shell in {name}");
    }

    /// Files of an instance lie in a folder of its name.
    fn transfer(&self) {
        let path = |word: &str| match word.split_once(':') {
            Some((name, path)) if !word.starts_with(['/', '.']) => {
                self.operative(name);
                self.daemon.folder().join("files").join(name).join(path.trim_start_matches('/'))
            }
            _ => word.into(),
        };
        let (from, to) = (path(self.line.word(0)), path(self.line.word(1)));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        if let Err(error) = std::fs::copy(&from, &to) {
            eprintln!("[sftp] cannot open {from:?}: {error}");
            exit(FAILED);
        }
    }

    fn mount(&self) {
        let (source, target) = (self.line.word(0), self.line.word(1));
        let (name, target) = target.split_once(':').unwrap();
        if !std::path::Path::new(source).is_dir() {
            eprintln!("Source path \"{source}\" does not exist");
            exit(COMMAND_LINE);
        }
        if self.fault("no-mounts") {
            fail(
                "mount",
                "Mounts are disabled on this installation of Multipass.\n\nSee https://canonical.com/multipass.",
                "",
            );
        }
        let (mut world, _) = self.operative(name);
        let mounts = &mut world.instances.get_mut(name).unwrap()["mounts"];
        if mounts.get(target).is_some() {
            errors("mount", &format!("\"{target}\" is already mounted in '{name}'"));
        }
        mounts[target] = json!(source);
        world.save();
        world.touch("mount", name);
    }

    fn snapshot(&self) {
        let name = self.line.word(0);
        let (mut world, state) = self.single(name);
        if state != "Stopped" {
            fail("snapshot", "Multipass can only take snapshots of stopped instances.", "");
        }
        let label = self.line.option("--name").unwrap_or("snapshot1");
        if !is_name(label) {
            fail("snapshot", &format!("Invalid snapshot name: \"{label}\"."), "");
        }
        world.touch("snapshot", name);
        let snapshots = world.instances.get_mut(name).unwrap()["snapshots"].as_array_mut().unwrap();
        if snapshots.iter().any(|snapshot| snapshot["label"] == label) {
            fail("snapshot", &format!("Snapshot already exists: {name}.{label}"), "");
        }
        let parent = snapshots.last().map_or(json!(""), |last| last["label"].clone());
        // Later ones are later to the second, which a test needs not wait for.
        let created = now() + i64::try_from(snapshots.len()).unwrap();
        snapshots.push(json!({"label": label, "parent": parent, "created": created}));
        world.save();
        println!("Snapshot taken: {name}.{label}");
    }

    fn restore(&self) {
        let what = self.line.word(0);
        let (name, label) = what.split_once('.').unwrap_or_else(|| {
            eprintln!("Invalid format.");
            exit(COMMAND_LINE)
        });
        let (world, state) = self.single(name);
        let snapshots = world.instances[name]["snapshots"].as_array().unwrap();
        if !snapshots.iter().any(|snapshot| snapshot["label"] == label) {
            fail("restore", &format!("No such snapshot: {name}.{label}"), "");
        }
        if state != "Stopped" {
            fail("restore", "Multipass can only restore snapshots of stopped instances.", "");
        }
        if !self.line.has("--destructive") {
            eprintln!(
                "Unable to query client for confirmation. Use '--destructive' to automatically discard current machine state."
            );
            fail("restore", "Cannot get confirmation from client. Aborting...", "");
        }
        world.touch("restore", name);
        println!("Snapshot restored: {name}.{label}");
    }

    fn clone_instance(&self) {
        let name = self.line.word(0);
        let (mut world, state) = self.single(name);
        if state != "Stopped" {
            fail("clone", "Multipass can only clone stopped instances.", "");
        }
        let copy = self.line.option("--name").unwrap_or("clone1");
        if world.instances.contains_key(copy) {
            fail("clone", &format!("instance \"{copy}\" already exists"), "");
        }
        let mut settings: Value = world.instances[name].clone();
        settings["ip"] = Value::Null;
        world.launch(copy, settings);
        world.set(copy, "Stopped");
        if self.fault("client-dies") {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        println!("Cloned from {name} to {copy}.");
    }
}

/// As cloud-init has it: Multipass reads the YAML and writes it anew, so comments are gone.
fn print_user_data(instance: &Value) {
    let text = instance["userData"].as_str().unwrap();
    println!("#cloud-config");
    text.lines().filter(|line| !line.trim_start().starts_with('#')).for_each(|line| println!("{line}"));
}

/// `^([a-zA-Z]|[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9])$`
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// A number with K, M or G, or of bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    let text = text.trim_end_matches('B').trim_end_matches('I');
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_shl(shift)
}
