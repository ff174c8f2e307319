//! `goloo man`

use std::path::{Path, PathBuf};

use crate::error::CliError;
use crate::exit;
use crate::output::Ui;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the pages of all commands into this folder, one file each, as in ~/.local/share/man/man1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Args {
    pub fn writes_files(&self) -> bool {
        self.dir.is_some()
    }
}

pub fn run(ui: &Ui, args: &Args, command_line: clap::Command) -> Result<u8, CliError> {
    match &args.dir {
        None => ui.document(&String::from_utf8_lossy(&page(command_line).content)),
        Some(dir) => {
            let pages = pages(command_line);
            // The pages aren't private: the user's own umask applies.
            goloo_sys::umask::restore();
            std::fs::create_dir_all(dir).map_err(|error| CliError::cannot("write", dir, &error))?;
            pages.iter().try_for_each(|page| page.write(dir))?;
            ui.line(&format!("wrote {} pages to {}", pages.len(), dir.display()));
        }
    }
    Ok(exit::DONE)
}

struct Page {
    file_name: String,
    content: Vec<u8>,
}

impl Page {
    fn write(&self, dir: &Path) -> Result<(), CliError> {
        let path = dir.join(&self.file_name);
        std::fs::write(&path, &self.content).map_err(|error| CliError::cannot("write", &path, &error))
    }
}

/// The pages of a command and of all commands below it: each page that one of them refers to.
fn pages(mut command: clap::Command) -> Vec<Page> {
    // The names of subcommands' pages are known once their parents are built.
    command.build();
    let mut pages = Vec::new();
    let mut pending = vec![command];
    while let Some(command) = pending.pop() {
        pending.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        pages.push(page(command));
    }
    pages
}

fn page(command: clap::Command) -> Page {
    // By default, a subcommand's page names the subcommand as the program, without a version.
    let page = clap_mangen::Man::new(command).source(concat!("goloo ", env!("CARGO_PKG_VERSION")));
    let mut content = Vec::new();
    page.render(&mut content).expect("a vector takes all bytes");
    Page { file_name: page.get_filename(), content }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    #[test]
    fn every_page_that_a_page_refers_to_is_written() {
        let pages = super::pages(crate::args::Cli::command());
        let names: BTreeSet<_> = pages.iter().map(|page| page.file_name.as_str()).collect();
        assert_eq!(names.len(), pages.len(), "two pages have one name: {names:?}");
        assert!(names.contains("goloo.1") && names.contains("goloo-state-push.1"), "{names:?}");
        let texts: Vec<_> = pages.iter().map(|page| String::from_utf8_lossy(&page.content)).collect();
        let plain: Vec<_> = texts.iter().map(|text| text.replace('\\', "")).collect();
        let words = plain.iter().flat_map(|text| text.split_whitespace());
        let references: BTreeSet<_> = words
            .filter_map(|word| word.strip_suffix("(1)"))
            .filter(|page| page.starts_with("goloo"))
            .collect();
        assert_eq!(references.len(), pages.len() - 1, "all but goloo(1) are in a list of subcommands");
        let missing: Vec<_> =
            references.iter().filter(|page| !names.contains(format!("{page}.1").as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
