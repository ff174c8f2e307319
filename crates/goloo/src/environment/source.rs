//! Finds and reads `goloo.json`.

use std::path::{Path, PathBuf};

use goloo_model::environment::{ENVIRONMENT_FILE, Environment};
use goloo_model::hint::Hint;
use goloo_model::spec::{Diagnostic, diagnostic_in_file};
use goloo_sys::private;

use crate::error::Error;
use crate::error::environment::EnvironmentError;
use crate::session::Session;
use crate::stack::{absolute, read_file};

/// A valid `goloo.json`, with its place.
#[derive(Debug)]
pub struct EnvironmentSource {
    /// What it says.
    pub environment: Environment,
    /// Its absolute path.
    pub path: PathBuf,
    content: Vec<u8>,
}

impl EnvironmentSource {
    /// The folder that paths in it are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// A problem at a pointer of the file.
    pub(super) fn diagnostic(
        &self,
        pointer: &str,
        message: impl Into<String>,
        hint: impl Into<Hint>,
    ) -> Diagnostic {
        diagnostic_in_file(file_name(&self.path), &self.content, pointer, message, hint)
    }

    pub(super) fn invalid(&self, problems: Vec<Diagnostic>) -> EnvironmentError {
        EnvironmentError::Invalid { problems, path: self.path.clone() }
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or(ENVIRONMENT_FILE)
}

impl Session {
    /// Reads an environment: the file that is named, or that in the folder that is named, or `goloo.json` in the working
    /// directory.
    ///
    /// # Errors
    /// [`EnvironmentError`] with all problems, and when the file can't be read.
    pub fn read_environment(&self, named: Option<&Path>) -> Result<EnvironmentSource, Error> {
        let path = match named {
            Some(path) if path.is_dir() => path.join(ENVIRONMENT_FILE),
            Some(path) => path.to_owned(),
            None => {
                let path = PathBuf::from(ENVIRONMENT_FILE);
                if let Some(reason) = private::foreign(&path) {
                    return Err(EnvironmentError::ExposedFile { path: absolute(&path), reason }.into());
                }
                path
            }
        };
        let path = absolute(&path);
        let content = read_file(&path)?
            .ok_or_else(|| EnvironmentError::NoFile { path: path.clone(), named: named.is_some() })?;
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let environment = Environment::read(file_name(&path), &content, &folder, &self.providers.ids())
            .map_err(|problems| EnvironmentError::Invalid { problems, path: path.clone() })?;
        Ok(EnvironmentSource { environment, path, content })
    }
}
