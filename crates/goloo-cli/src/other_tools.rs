//! Options and commands that people know from similar tools, and what goloo has in their place.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::CliError;

/// The keys of config.json behind options of Multipass, Lima, Docker and Vagrant, which all set them when a machine is
/// created.
const KEYS: [(&[&str], &str); 11] = [
    (&["--cpus", "--cpu", "-c"], "vm.cpus"),
    (&["--memory", "--mem", "--ram", "-m"], "vm.memory"),
    (&["--disk", "-d"], "vm.disk"),
    (&["--image", "-i"], "vm.image"),
    (&["--mount", "--volume"], "vm.mounts"),
    (&["--port", "--ports", "--publish", "--port-forward", "-p"], "vm.ports"),
    (&["--ttl"], "vm.ttl"),
    (&["--region"], "vm.region"),
    (&["--instance-type"], "vm.instance_type"),
    (&["--user"], "vm.users"),
    (&["--domain"], "dns.domain"),
];

/// Commands of Multipass, Lima, Docker and Vagrant.
const COMMANDS: [(&[&str], &str); 13] = [
    (&["launch", "run", "new"], "goloo create NAME"),
    (&["connect", "enter", "attach", "console"], "goloo ssh NAME"),
    (&["ps", "machines", "instances"], "goloo list"),
    (&["halt", "shutdown", "poweroff"], "goloo stop NAME"),
    (&["boot", "poweron"], "goloo start NAME"),
    (&["reboot", "reload"], "goloo restart NAME"),
    (&["remove", "del", "purge", "terminate"], "goloo delete NAME"),
    (&["transfer", "copy", "scp", "rsync"], "goloo cp FROM TO"),
    (&["find", "images"], "goloo image list"),
    (&["show", "inspect", "describe"], "goloo status NAME"),
    (&["validate", "lint", "check"], "goloo config validate NAME"),
    (&["login", "auth"], "goloo doctor"),
    (&["version"], "goloo --version"),
];

/// The error for an option or a command of another tool; `None` if clap's own error says enough.
pub fn explain(error: &clap::Error, argv: &[OsString]) -> Option<CliError> {
    let invalid = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => command(invalid(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument if creates(argv) => option(invalid(ContextKind::InvalidArg)?),
        _ => None,
    }
}

/// Whether the command is `create`, or one that creates a VM like it.
fn creates(argv: &[OsString]) -> bool {
    let command = argv.iter().skip(1).find(|word| !word.to_string_lossy().starts_with('-'));
    command.is_some_and(|word| word == "create" || word == "recreate")
}

fn option(word: &str) -> Option<CliError> {
    let option = word.split('=').next().unwrap_or(word);
    match option {
        "--name" | "-n" => {
            return Some(CliError::usage(
                format!("`create` has no option {option}: a VM is named after its stack"),
                "use --as NAME to give it another name",
            ));
        }
        "--cloud-init" | "--user-data" => {
            return Some(CliError::usage(
                format!("`create` has no option {option}: the document is a file of the stack"),
                "write it to cloud-init.yaml beside the stack's config.json; `goloo init NAME` writes such a folder",
            ));
        }
        _ => {}
    }
    let (_, key) = KEYS.iter().find(|(options, _)| options.contains(&option))?;
    let of_init = ["vm.cpus", "vm.memory", "vm.disk", "vm.image"].contains(key);
    let init = if of_init {
        let option = key.trim_start_matches("vm.");
        format!("; `goloo init NAME --{option} VALUE` writes a stack with it")
    } else {
        String::new()
    };
    Some(CliError::usage(
        format!("`create` has no option {option}: it is set in the stack, as {key} in its config.json"),
        format!("set {key} in the stack's config.json{init}"),
    ))
}

fn command(word: &str) -> Option<CliError> {
    let (_, ours) = COMMANDS.iter().find(|(words, _)| words.contains(&word))?;
    Some(CliError::usage(
        format!("goloo has no command \"{word}\""),
        format!("use `{ours}`; `goloo help` lists all commands"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args;

    fn argv(line: &str) -> Vec<OsString> {
        shlex::split(line).unwrap().into_iter().map(OsString::from).collect()
    }

    #[test]
    fn each_listed_option_is_unknown_to_create_and_its_key_exists() {
        let known = goloo_model::spec::json_schema().to_string();
        for (options, key) in KEYS {
            let last = key.rsplit('.').next().unwrap();
            assert!(known.contains(&format!("\"{last}\"")), "{key}");
            for option in options {
                let line = argv(&format!("goloo create web {option} 4"));
                let error = args::parse(&line).unwrap_err();
                let explained = explain(&error, &line).unwrap_or_else(|| panic!("{option}: {error}"));
                assert!(
                    explained.message.contains(key) && explained.message.contains(option),
                    "{explained:?}"
                );
            }
        }
    }

    #[test]
    fn each_listed_command_is_unknown_and_its_replacement_is_a_command() {
        for (words, ours) in COMMANDS {
            let help = argv(&format!("{} --help", ours.split([' ']).take(2).collect::<Vec<_>>().join(" ")));
            assert!(!args::parse(&help).unwrap_err().use_stderr(), "{ours}");
            for word in words {
                let line = argv(&format!("goloo {word}"));
                let error = args::parse(&line).unwrap_err();
                assert!(explain(&error, &line).unwrap().hint.contains(ours), "{word}");
            }
        }
    }

    #[test]
    fn other_errors_are_left_to_clap() {
        for line in [
            "goloo frobnicate",
            "goloo create web --frobnicate",
            "goloo list --cpus 4",
            "goloo create --aws --local web",
        ] {
            let line = argv(line);
            assert!(explain(&args::parse(&line).unwrap_err(), &line).is_none(), "{line:?}");
        }
    }
}
