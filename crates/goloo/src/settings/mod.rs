//! `settings.json`: the user's settings.

mod edit;
#[cfg(feature = "encryption")]
mod encryption;
mod local_provider;
mod show;
mod values;

pub use edit::{KEYS, preview, set, set_state_backend};
pub use show::{Shown, shown};
pub use values::{Settings, file, json_schema, place_variable};
