//! Files of `docs/reference`, generated from the code. A test reports which are stale, and writes them with
//! `GOLOO_GENERATE=1`: tests are built in any case, and a program would need all dependencies again, with other features.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

struct Generated {
    path: PathBuf,
    content: Vec<u8>,
}

impl Generated {
    fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into() }
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
    let schema = serde_json::to_string_pretty(&goloo_model::spec::json_schema());
    let schema = schema.expect("a schema has only string keys") + "\n";
    let settings_schema = serde_json::to_string_pretty(&goloo::settings::json_schema());
    let settings_schema = settings_schema.expect("a schema has only string keys") + "\n";
    let environment_schema = serde_json::to_string_pretty(&goloo_model::environment::environment_schema());
    let environment_schema = environment_schema.expect("a schema has only string keys") + "\n";
    let mut files = vec![
        Generated::new("docs/reference/cli.md", cli_reference()),
        Generated::new("docs/reference/config.schema.json", schema),
        Generated::new("docs/reference/environment.schema.json", environment_schema),
        Generated::new("docs/reference/settings.schema.json", settings_schema),
    ];
    let schemas = goloo_cli::output_schemas();
    files.push(Generated::new("docs/reference/json-output.md", json_reference(&schemas)));
    files.extend(schemas.iter().map(|output| {
        let schema = serde_json::to_string_pretty(&output.schema).expect("a schema has only string keys");
        Generated::new(&schema_path(output), schema + "\n")
    }));
    files
}

/// The help texts of all commands, as one page.
fn cli_reference() -> Vec<u8> {
    let mut page = b"# The command line\n\nGenerated from the code by `make generate`.\n".to_vec();
    let mut command = goloo_cli::args::Cli::command().term_width(100);
    command.build();
    section(&mut page, command, "goloo");
    page
}

fn schema_path(output: &goloo_cli::OutputSchema) -> String {
    format!("docs/reference/json/{}.schema.json", output.name)
}

/// The schemas of the JSON output of all commands, as one page.
fn json_reference(schemas: &[goloo_cli::OutputSchema]) -> Vec<u8> {
    let mut page = JSON_REFERENCE.to_owned();
    for output in schemas {
        for command in output.commands {
            page +=
                &format!("| `goloo {command}` | [{0}.schema.json](json/{0}.schema.json) |\n", output.name);
        }
    }
    page.into_bytes()
}

const JSON_REFERENCE: &str = "\
# JSON output

For scripts and programs that read goloo's output. Generated from the code by `make generate`.

Commands with `--json` print one JSON document on standard output. Everything else goes to standard error. Each document
has `\"schema\": 1`. Fields are only ever added, so ignore fields that you don't know. No document contains private keys.

A command that can't give its result prints `{\"schema\": 1, \"error\": {…}}`. Every command exits with one of the
[exit codes](exit-codes.md): `config validate`, `doctor`, `refresh`, and a `create` whose provisioning failed, print their
result and exit with a code other than 0.

`goloo state pull` isn't in the table: its document is for `goloo state push` and contains secrets.

| command | JSON Schema |
| --- | --- |
";

fn section(page: &mut Vec<u8>, mut command: clap::Command, title: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    writeln!(page, "\n## {title}\n\n```text\n{}\n```", help.join("\n"))
        .expect("a vector takes all that is written");
    for child in command.get_subcommands() {
        section(page, child.clone(), &format!("{title} {}", child.get_name()));
    }
}

#[test]
fn generated_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    if std::env::var_os("GOLOO_GENERATE").is_some() {
        generated().iter().for_each(|file| file.write(root).expect("a generated file can be written"));
    }
    let is_stale =
        |file: &Generated| std::fs::read(root.join(&file.path)).ok().as_ref() != Some(&file.content);
    let stale: Vec<_> = generated().into_iter().filter(is_stale).map(|file| file.path).collect();
    assert!(stale.is_empty(), "run `make generate` and commit {stale:?}");
}
