//! A command line, parsed as by Multipass's client.

use std::process::exit;

/// The exit status for an invalid command line.
pub const COMMAND_LINE: i32 = 1;

/// The options and positional arguments of a command.
#[derive(Default)]
pub struct Line {
    options: Vec<(String, String)>,
    pub words: Vec<String>,
}

impl Line {
    /// Which options take a value depends on the command; all others take none. After `--` there are only positional
    /// arguments.
    pub fn parse(command: &str, rest: &[String]) -> Self {
        let valued: &[&str] = match command {
            "launch" => &["--name", "--cpus", "--memory", "--disk", "--cloud-init", "--timeout"],
            "list" | "info" | "version" | "find" | "networks" => &["--format"],
            "snapshot" | "clone" => &["--name"],
            _ => &[],
        };
        let plain: &[&str] = match command {
            "list" => &["--snapshots", "--no-ipv4"],
            "info" => &["--snapshots", "--no-runtime-information"],
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
                    let value = rest.next().cloned().unwrap_or_else(|| {
                        refuse(&format!("Missing value after '{option}'."));
                    });
                    line.options.push((option.to_owned(), value));
                }
                option if plain.contains(&option) => line.options.push((option.to_owned(), String::new())),
                option if option.starts_with("--") => {
                    refuse(&format!("Unknown option '{}'.", option.trim_start_matches('-')))
                }
                other => line.words.push(other.to_owned()),
            }
        }
        line
    }

    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.option(name).is_some()
    }

    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or_else(|| refuse("Wrong number of arguments"), String::as_str)
    }
}

fn refuse(why: &str) -> ! {
    eprintln!("{why}");
    exit(COMMAND_LINE)
}
