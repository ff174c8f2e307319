//! What `goloo --help` shows: the commands in groups, in place of clap's one long list.

use std::fmt::Write as _;

/// The groups, in the order in which a user meets them. A test checks that each command is in one.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Make VMs",
        &["init", "create", "up", "down", "resume", "clone", "import", "recreate", "bake", "adopt", "delete"],
    ),
    (
        "Use VMs",
        &[
            "list",
            "top",
            "status",
            "ssh",
            "exec",
            "cp",
            "code",
            "docker",
            "logs",
            "start",
            "stop",
            "restart",
            "wait",
            "ssh-config",
        ],
    ),
    (
        "Change VMs",
        &[
            "apply",
            "set",
            "rename",
            "tag",
            "protect",
            "unprotect",
            "autostart",
            "snapshot",
            "restore",
            "export",
            "dns",
        ],
    ),
    ("Records and history", &["history", "diff", "refresh", "archive", "state", "migrate"]),
    ("Set-up", &["config", "settings", "image", "doctor", "completion", "man", "help"]),
];

/// The column of the descriptions.
const INDENT: usize = 14;

/// The command line with its commands in groups.
pub fn grouped(command: clap::Command) -> clap::Command {
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (heading, names) in GROUPS {
        let _ = write!(text, "\n{heading}:\n");
        for child in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = child.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<width$}{about}", child.get_name(), width = INDENT - 2);
        }
    }
    text.push_str("\nOptions:\n{options}{after-help}");
    command.help_template(text)
}

/// The names of all commands, in the order of the help.
pub fn commands() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter().flat_map(|(_, names)| names.iter().copied())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_command_is_in_one_group() {
        let command = crate::args::Cli::command();
        let known: BTreeSet<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        let listed: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        assert_eq!(listed.len(), known.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn lines_of_the_help_fit_80_columns() {
        let mut command = grouped(crate::args::Cli::command()).term_width(80);
        let help = command.render_help().to_string();
        let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, [""; 0]);
    }
}
