//! `goloo init`

use clap_complete::engine::ArgValueCandidates;
use std::io::Write;
use std::path::{Path, PathBuf};

use goloo::Error;
use goloo::stack::{Found, StackError};
use goloo_model::name::VmName;
use goloo_model::store::Snapshot;
use goloo_sys::private::in_shell;
use serde_json::Value;

use crate::app::App;
use crate::error::CliError;
use crate::output::hint;
use crate::{complete, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stack's name, which becomes the VM's: its folder is ./stacks/NAME. Or a path to the folder. The name of a
    /// template writes that template
    #[arg(default_value = "base")]
    name: PathBuf,
    /// The template
    #[arg(short, long, value_parser = clap::builder::PossibleValuesParser::new(TEMPLATES.iter().map(|t| t.name)))]
    template: Option<String>,
    #[command(flatten)]
    machine: Machine,
    // Before there was --template, the first word was the template and the second one the folder.
    #[arg(hide = true, conflicts_with = "template")]
    dir: Option<PathBuf>,
}

// What may differ from the template.
#[derive(Debug, clap::Args)]
struct Machine {
    /// The image, such as 24.04 or debian-13
    #[arg(long, add = ArgValueCandidates::new(complete::images))]
    image: Option<String>,
    /// The number of CPUs
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// The memory, such as 2G
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The size of the disk, such as 20G
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
}

impl Machine {
    /// The text of a template's config.json with these values.
    fn apply(&self, config: &str) -> String {
        let text = |value: &Option<String>| value.as_ref().map(|value| Value::from(value.as_str()));
        let values = [
            ("cpus", self.cpus.map(Value::from)),
            ("memory", text(&self.memory)),
            ("disk", text(&self.disk)),
            ("image", text(&self.image)),
        ];
        let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
        for (key, value) in values.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            let start = format!("    \"{key}\": ");
            let line = lines.iter_mut().find(|line| line.starts_with(&start));
            let line = line.expect("each template has these keys, each on its own line");
            let comma = if line.ends_with(',') { "," } else { "" };
            *line = format!("{start}{value}{comma}");
        }
        lines.join("\n") + "\n"
    }
}

impl Args {
    fn text(&self, file: &str, template: &str) -> String {
        if file == "config.json" { self.machine.apply(template) } else { template.to_owned() }
    }
}

/// A stack that is to be written.
struct NewStack {
    template: &'static Template,
    folder: PathBuf,
}

impl NewStack {
    fn of(args: &Args) -> Self {
        let named = |name: &str| TEMPLATES.iter().find(|template| template.name == name);
        let first = named(&args.name.to_string_lossy());
        if let (Some(template), Some(folder)) = (first, &args.dir) {
            return Self { template, folder: folder.clone() };
        }
        let template = args.template.as_deref().map_or(first, named).or_else(|| named("base"));
        let is_path = args.name.components().count() > 1 || args.name.is_absolute();
        let folder = if is_path { args.name.clone() } else { Path::new("stacks").join(&args.name) };
        Self { template: template.expect("clap lets only known templates through"), folder }
    }
}

struct Template {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! template {
    ($name:literal, $($file:literal),+) => {
        Template {
            name: $name,
            files: &[$(($file, include_str!(concat!("../../templates/", $name, "/", $file)))),+],
        }
    };
}

const TEMPLATES: &[Template] = &[
    template!("base", "config.json", "cloud-init.yaml"),
    template!("dev", "config.json", "cloud-init.yaml"),
    template!("python-dev", "config.json", "cloud-init.yaml"),
    template!("go-dev", "config.json", "cloud-init.yaml"),
    template!("node-dev", "config.json", "cloud-init.yaml"),
    template!("rust-dev", "config.json", "cloud-init.yaml"),
    template!("docker", "config.json", "cloud-init.yaml"),
    template!("web", "config.json", "cloud-init.yaml", "configure.sh"),
];

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let NewStack { template, folder: dir } = NewStack::of(args);
    let name = vm_name(&dir)?;
    let files: Vec<(&str, String)> =
        template.files.iter().map(|(file, text)| (*file, args.text(file, text))).collect();
    check(app, &files, &name, &dir)?;
    // The stack belongs to the user, who may share it: not a private folder.
    goloo_sys::umask::restore();
    std::fs::create_dir_all(&dir).map_err(|error| CliError::cannot("write", &dir, &error))?;
    // Nothing is written when any of the files exists.
    if let Some((file, _)) = files.iter().find(|(file, _)| dir.join(file).exists()) {
        return Err(CliError::failed(
            format!("{} already exists", dir.join(file).display()),
            format!("review it, or write another stack: goloo init OTHER-NAME --template {}", template.name),
        ));
    }
    for (file, content) in &files {
        write_new(&dir.join(file), content)?;
    }
    let written: Vec<_> = files.iter().map(|(file, _)| *file).collect();
    app.ui.line(&format!("created {} with {}", dir.display(), written.join(", ")));
    let is_found = dir == Path::new("stacks").join(name.as_str());
    let stack = if is_found { name.to_string() } else { path_argument(&dir) };
    app.ui.say(&format!("review the files, then run `goloo create {stack}`"));
    Ok(exit::DONE)
}

/// The folder's name, which becomes the VM's.
fn vm_name(dir: &Path) -> Result<VmName, CliError> {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    VmName::parse(name).map_err(|error| {
        CliError::usage(
            format!("the folder's name can't be the VM's name: {error}"),
            "name it with letters, digits and hyphens: goloo init web",
        )
    })
}

/// The folder as an argument of `create`, which takes a word with a slash for a path.
fn path_argument(dir: &Path) -> String {
    let is_one_word = dir.components().count() == 1 && dir.is_relative();
    in_shell(&if is_one_word { Path::new(".").join(dir) } else { dir.to_owned() })
}

/// Refuses values that `create` would refuse, before anything is written.
fn check(app: &App, files: &[(&str, String)], name: &VmName, dir: &Path) -> Result<(), CliError> {
    let contents = files.iter().map(|(file, text)| ((*file).to_owned(), text.clone().into_bytes()));
    let stack = Found::from_snapshot(Snapshot { files: contents.collect() }, name.as_str(), dir.to_owned());
    match stack.resolve(&app.session, name.as_str(), None) {
        Err(Error::Stack(StackError::Invalid { problems, .. })) if !problems.is_empty() => {
            let problem = &problems[0];
            Err(CliError::usage(problem.message.clone(), hint::text(&problem.hint)))
        }
        resolved => {
            resolved?;
            Ok(())
        }
    }
}

fn write_new(path: &Path, content: &str) -> Result<(), CliError> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| CliError::cannot("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpus: Option<u32>, disk: Option<&str>) -> Machine {
        Machine { image: None, cpus, memory: None, disk: disk.map(str::to_owned) }
    }

    #[test]
    fn each_template_takes_all_values() {
        for template in TEMPLATES {
            let config =
                template.files.iter().find(|(file, _)| *file == "config.json").expect("it has one").1;
            assert_eq!(machine(None, None).apply(config), config, "{}", template.name);
            let all = Machine {
                image: Some("debian-13".into()),
                cpus: Some(7),
                memory: Some("3G".into()),
                disk: Some("33G".into()),
            };
            let before: Value = serde_json::from_str(config).expect("valid");
            let mut after: Value = serde_json::from_str(&all.apply(config)).expect("valid");
            assert_eq!(after["vm"]["cpus"], 7);
            assert_eq!((&after["vm"]["memory"], &after["vm"]["disk"]), (&"3G".into(), &"33G".into()));
            assert_eq!(after["vm"]["image"], "debian-13");
            for key in ["cpus", "memory", "disk", "image"] {
                after["vm"][key] = before["vm"][key].clone();
            }
            assert_eq!(after, before, "{}", template.name);
        }
    }

    #[test]
    fn a_value_with_quotes_stays_one_value() {
        let text = machine(None, Some("1\", \"x\": \"")).apply(TEMPLATES[0].files[0].1);
        let config: Value = serde_json::from_str(&text).expect("valid");
        assert_eq!(config["vm"]["disk"], "1\", \"x\": \"");
    }
}
