//! Reads the registry of the folders that stacks were created from.

use std::collections::BTreeMap;

use goloo::registry::{Known, Registry, RegistryError};

use crate::app::App;
use crate::error::CliError;

/// All entries of the registry, by the stack's name. Empty, with a warning, when it can't be read.
pub fn stacks(app: &App, registry: &Registry) -> BTreeMap<String, Known> {
    registry.all().unwrap_or_else(|error| {
        let text = match error {
            RegistryError::Unread(error) => {
                let error = CliError::from(error);
                format!(
                    "can't tell which folders stacks were created from: {} ({})",
                    error.in_one_line(),
                    error.hint
                )
            }
            broken @ RegistryError::Broken { .. } => broken.to_string(),
        };
        app.ui.warning(&text);
        BTreeMap::new()
    })
}
