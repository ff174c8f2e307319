//! `launch`: its checks, in the daemon's order, and its waits.

use std::io::Read;
use std::process::exit;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{IMAGES, World};
use crate::{COMMAND_LINE, Call, TIME, TIMEOUT, answers, errors, exception, fail, spin};

/// The unpacked size of a release's image.
const IMAGE_SIZE: u64 = 2 << 30;

impl Call<'_> {
    pub(crate) fn launch(&self) {
        let image = self.line.words.first().map_or("lts", String::as_str);
        let name = self.line.option("--name").unwrap_or("sensible-name").to_owned();
        self.check_sizes();
        let user_data = self.user_data();
        spin(&format!("Launching {name}"));
        self.check_image(image);
        self.check_arguments(&name);
        {
            let mut world = self.daemon.world();
            self.check_name(&world, &name);
            self.check_disk(image);
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

    /// The client's interpretation of sizes.
    fn check_sizes(&self) {
        for given in ["--memory", "--disk"].iter().filter_map(|option| self.line.option(option)) {
            if bytes(given).is_none() {
                exception(&format!(
                    "{given} is not a valid memory size - need a non-negative integer (in base 10) or a decimal followed by K, M, or G (e.g. 1234B, 42MiB, 0.5G)"
                ));
            }
        }
    }

    /// Reads standard input, if it is YAML as far as this program can tell.
    fn user_data(&self) -> String {
        const FAILURE: &str = "Could not load cloud-init configuration";
        let text = match self.line.option("--cloud-init") {
            None => return "#cloud-config\n{}\n".to_owned(),
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

    /// Runs before all other checks, including that of the name.
    fn check_image(&self, image: &str) {
        if image.starts_with("file://") || image.starts_with("http") {
            return;
        }
        if self.fault("images-down") {
            eprintln!(
                "{TIME} [error] [url downloader] Failed to get https://cloud-images.example/streams/v1/index.json: Host not found"
            );
            eprintln!("{TIME} [error] [blueprint provider] Error fetching Blueprints: failed to download");
            fail("launch", "Remote \"\" is unknown or unreachable.", "");
        }
        if !IMAGES.contains(&image) {
            fail("launch", &format!("Unable to find an image matching \"{image}\" in remote \"\"."), "");
        }
    }

    fn check_arguments(&self, name: &str) {
        let invalid = |what: &str, value: &str| -> ! {
            fail("launch", "Invalid arguments supplied", &format!("Invalid {what} supplied: {value}"))
        };
        let [memory, disk] = answers::least_sizes(self.daemon);
        for (option, least, what) in
            [("--memory", memory, "memory size value"), ("--disk", disk, "disk size value")]
        {
            let given = self.line.option(option);
            if given.is_some_and(|given| bytes(given).is_none_or(|bytes| bytes < least)) {
                invalid(what, &format!("{}.", given.unwrap()));
            }
        }
        if !is_name(name) {
            invalid("instance name", name);
        }
    }

    fn check_name(&self, world: &World<'_>, name: &str) {
        if world.state(name).is_some() {
            fail("launch", &format!("instance \"{name}\" already exists"), "");
        }
        if world.is_preparing(name) {
            fail("launch", &format!("instance \"{name}\" is being prepared"), "");
        }
    }

    /// Runs once the image is available; on failure, what was begun is undone.
    fn check_disk(&self, image: &str) {
        if let Some(url) = image.strip_prefix("file://") {
            let path = path_of_url(url);
            if !std::path::Path::new(&path).is_file() {
                fail("launch", &format!("Custom image `{path}` does not exist."), "");
            }
            return;
        }
        let disk = self.line.option("--disk").and_then(bytes).unwrap_or(5 << 30);
        if disk < IMAGE_SIZE && !image.starts_with("http") {
            let message =
                format!("Requested disk ({disk} bytes) below minimum for this image ({IMAGE_SIZE} bytes)");
            fail("launch", &message, "");
        }
    }

    fn wait_for_launch(&self, name: &str) {
        let seconds = self.line.option("--timeout").map(|text| text.parse().unwrap());
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        for () in self.moments() {
            if end.is_some_and(|end| Instant::now() >= end) {
                eprintln!("Timed out waiting for instance launch.");
                exit(TIMEOUT);
            }
            if self.daemon.is_dead() {
                fail("launch", "cannot connect to the multipass socket", "");
            }
            let world = self.daemon.world();
            if world.is_launching(name) {
                continue;
            }
            match world.failure(name) {
                _ if !world.instances.contains_key(name) => fail("launch", "Aborted download", ""),
                None => return,
                Some("never-initialized") => {
                    errors("launch", "timed out waiting for initialization to complete");
                }
                Some(failure) => errors("launch", &never_up(name, failure)),
            }
        }
    }
}

/// The message for an instance that didn't start.
pub(crate) fn never_up(name: &str, failure: &str) -> String {
    match failure {
        "ends-while-starting" => format!("{name}: shutdown called while starting"),
        _ => format!("{name}: timed out waiting for response"),
    }
}

/// A URL's path: without the part after `#` or `?`, and decoded.
fn path_of_url(url: &str) -> String {
    let path = url.split(['#', '?']).next().unwrap().as_bytes();
    let digit = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match (path[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `^([a-zA-Z]|[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9])$`
pub(crate) fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Parses a number of bytes, or a number with K, M or G.
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
