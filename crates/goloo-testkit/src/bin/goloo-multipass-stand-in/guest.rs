//! Commands in guests: `exec`, `shell`, `transfer`, `mount`. The client connects to the guest itself: a hanging guest
//! blocks only the client.

use std::process::exit;
use std::thread::sleep;

use serde_json::{Value, json};

use crate::daemon::LIFETIME;
use crate::{COMMAND_LINE, Call, FAILED, TIME, errors, fail, spin};

impl Call<'_> {
    pub(crate) fn exec(&self) {
        let name = self.line.word(0);
        if !self.line.has("-n") && self.daemon.world().state(name).is_none() {
            // If the folder is mapped, the instance's mounts are queried first.
            eprintln!("exec failed: The following errors occurred:\ninstance \"{name}\" does not exist");
        }
        let state = self.operative(name).1;
        if state == "Unknown" {
            fail("exec", "Cannot retrieve credentials in unknown state", "");
        }
        if state != "Running" {
            self.start(name);
        }
        if self.daemon.is_frozen(name) {
            sleep(LIFETIME);
        }
        if self.fault("no-sshd") {
            fail("exec", "ssh connection failed: 'Connection refused'", "");
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

    pub(crate) fn shell(&self) {
        let name = self.line.word(0);
        self.operative(name);
        println!("a shell in {name}");
    }

    /// The files of an instance are in a folder with its name.
    pub(crate) fn transfer(&self) {
        let path = |word: &str| match word.split_once(':') {
            Some((name, path)) if !word.starts_with(['/', '.']) => {
                self.operative(name);
                self.daemon.folder().join("files").join(name).join(path.trim_start_matches('/'))
            }
            _ => word.into(),
        };
        let (from, to) = (path(self.line.word(0)), path(self.line.word(1)));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        if std::fs::copy(&from, &to).is_err() {
            let shown = self.line.word(0).split_once(':').map_or(self.line.word(0), |(_, path)| path);
            eprintln!("{TIME} [error] [sftp] cannot open remote file {shown}: SFTP server: No such file");
            exit(FAILED);
        }
    }

    pub(crate) fn mount(&self) {
        let (source, target) = (self.line.word(0), self.line.word(1));
        let (name, target) = target.split_once(':').unwrap();
        if !std::path::Path::new(source).is_dir() {
            eprintln!("Source path \"{source}\" does not exist");
            exit(COMMAND_LINE);
        }
        spin(&format!("Mounting {source} into {name}:{target}"));
        if self.fault("no-mounts") {
            fail(
                "mount",
                "Mounts are disabled on this installation of Multipass.\n\nSee https://canonical.com/multipass.",
                "",
            );
        }
        let mut world = self.daemon.world();
        if world.state(name).is_none_or(|state| state == "Deleted") {
            errors("mount", &format!("instance '{name}' does not exist"));
        }
        let mounts = &mut world.instances.get_mut(name).unwrap()["mounts"];
        if mounts.get(target).is_some() {
            errors("mount", &format!("\"{target}\" is already mounted in '{name}'"));
        }
        mounts[target] = json!(source);
        world.know_mounts(name);
        world.touch("mount", name);
    }

    /// `set local.INSTANCE.cpus|memory|disk=VALUE`; the messages are those of Multipass 1.16's source.
    pub(crate) fn set(&self) {
        let word = self.line.word(0);
        let parts = word.split_once('=').map(|(key, value)| (key.split('.').collect::<Vec<_>>(), value));
        let Some((["local", name, property @ ("cpus" | "memory" | "disk")], value)) =
            parts.as_ref().map(|(key, value)| (&key[..], *value))
        else {
            fail("set", &format!("Unrecognized settings key: '{word}'"), "");
        };
        let mut world = self.daemon.world();
        match world.state(name) {
            Some(state) if state == "Stopped" => {}
            Some(_) => fail(
                "set",
                "Cannot update instance settings; instance: Instance must be stopped for modification",
                "",
            ),
            None => fail(
                "set",
                &format!("Cannot access instance settings; instance: {name}; reason: No such instance"),
                "",
            ),
        }
        world.instances.get_mut(*name).unwrap()[*property] = value.into();
        world.save();
        world.touch("set", name);
    }

    /// Removes the mounts of an instance, or the one at the target; succeeds if there are none.
    pub(crate) fn umount(&self) {
        let (name, target) = self.line.word(0).split_once(':').unwrap_or((self.line.word(0), ""));
        let mut world = self.daemon.world();
        if world.state(name).is_none_or(|state| state == "Deleted") {
            errors("umount", &format!("instance '{name}' does not exist"));
        }
        let mounts = &mut world.instances.get_mut(name).unwrap()["mounts"];
        match (target, mounts.as_object_mut()) {
            ("", _) | (_, None) => *mounts = json!({}),
            (target, Some(mounts)) => drop(mounts.remove(target)),
        }
        world.know_mounts(name);
        world.touch("umount", name);
    }
}

/// Prints the user-data as cloud-init receives it: Multipass parses the YAML and serializes it again, without comments.
fn print_user_data(instance: &Value) {
    let text = instance["userData"].as_str().unwrap();
    println!("#cloud-config");
    text.lines().filter(|line| !line.trim_start().starts_with('#')).for_each(|line| println!("{line}"));
}
