//! `goloo init`

use std::io::Write;
use std::path::{Path, PathBuf};

use goloo_model::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The template
    #[arg(default_value = "base", value_parser = clap::builder::PossibleValuesParser::new(TEMPLATES.iter().map(|t| t.name)))]
    template: String,
    /// The stack's folder; its name becomes the VM's name. By default ./stacks/TEMPLATE
    dir: Option<PathBuf>,
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
    let template = TEMPLATES.iter().find(|template| template.name == args.template);
    let template = template.expect("clap lets only known templates through");
    let dir = args.dir.clone().unwrap_or_else(|| Path::new("stacks").join(template.name));
    let absolute = std::path::absolute(&dir).unwrap_or_else(|_| dir.clone());
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    VmName::parse(name).map_err(|error| {
        CliError::usage(
            format!("the folder's name can't be the VM's name: {error}"),
            format!("goloo init {} ./stacks/{}", template.name, template.name),
        )
    })?;
    // The stack belongs to the user, who may share it: not a private folder.
    goloo_sys::umask::restore();
    std::fs::create_dir_all(&dir).map_err(|error| CliError::cannot("write", &dir, &error))?;
    // Nothing is written when any of the files exists.
    if let Some((file, _)) = template.files.iter().find(|(file, _)| dir.join(file).exists()) {
        return Err(CliError::failed(
            format!("{} already exists", dir.join(file).display()),
            format!("goloo init {} OTHER-FOLDER", template.name),
        ));
    }
    for (file, content) in template.files {
        write_new(&dir.join(file), content)?;
    }
    app.ui.line(&format!("created {}", dir.display()));
    let place =
        if dir == Path::new("stacks").join(name) { String::new() } else { format!(" -f {}", dir.display()) };
    app.ui.say(&format!("Review its files, then run `goloo create {name}{place}`"));
    Ok(exit::DONE)
}

fn write_new(path: &Path, content: &str) -> Result<(), CliError> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| CliError::cannot("write", path, &error))
}
