//! Writes the files that the code decides: `generate` writes them, `check` says which are stale.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let files = generated();
    match std::env::args().nth(1).as_deref() {
        Some("generate") => report(files.iter().filter_map(|file| file.write(root).err())),
        Some("check") => report(
            files
                .iter()
                .filter(|file| !file.is_fresh(root))
                .map(|file| format!("{} is stale: run `make generate` and commit it", file.path.display())),
        ),
        _ => report(["usage: cargo run -p xtask -- generate|check".to_owned()]),
    }
}

fn report(problems: impl IntoIterator<Item = String>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for problem in problems {
        eprintln!("{problem}");
        code = ExitCode::FAILURE;
    }
    code
}

/// A file that the code decides.
struct Generated {
    path: PathBuf,
    content: Vec<u8>,
}

impl Generated {
    fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into() }
    }

    fn is_fresh(&self, root: &Path) -> bool {
        std::fs::read(root.join(&self.path)).is_ok_and(|content| content == self.content)
    }

    fn write(&self, root: &Path) -> Result<(), String> {
        let path = root.join(&self.path);
        let folder = path.parent().expect("the paths have folders");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, &self.content))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn generated() -> Vec<Generated> {
    let schema = serde_json::to_string_pretty(&goloo_core::spec::json_schema());
    let schema = schema.expect("a schema has only string keys") + "\n";
    let settings_schema = serde_json::to_string_pretty(&goloo::settings_schema());
    let settings_schema = settings_schema.expect("a schema has only string keys") + "\n";
    let mut files = vec![
        Generated::new("docs/reference/cli.md", cli_reference()),
        Generated::new("docs/reference/config.schema.json", schema),
        Generated::new("docs/reference/settings.schema.json", settings_schema),
        Generated::new("docs/reference/goloo.1", manual()),
    ];
    let shells: [(&str, &dyn EnvCompleter); 3] =
        [("goloo.bash", &Bash), ("_goloo", &Zsh), ("goloo.fish", &Fish)];
    files.extend(shells.map(|(file, shell)| {
        let mut script = Vec::new();
        shell
            .write_registration("COMPLETE", "goloo", "goloo", "goloo", &mut script)
            .expect("a vector takes all that is written");
        Generated::new(&format!("docs/reference/completions/{file}"), script)
    }));
    files
}

fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    clap_mangen::Man::new(goloo::args::Cli::command())
        .render(&mut page)
        .expect("a vector takes all that is written");
    page
}

/// The help texts of all commands, as one page.
fn cli_reference() -> Vec<u8> {
    let mut page = b"# The command line\n\nGenerated from the code by `make generate`.\n".to_vec();
    let mut command = goloo::args::Cli::command().term_width(100);
    command.build();
    section(&mut page, command, "goloo");
    page
}

fn section(page: &mut Vec<u8>, mut command: clap::Command, title: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    writeln!(page, "\n## {title}\n\n```text\n{}\n```", help.join("\n"))
        .expect("a vector takes all that is written");
    for child in command.get_subcommands() {
        section(page, child.clone(), &format!("{title} {}", child.get_name()));
    }
}
