//! User-data for cloud-init: the user's document, and goloo's parts next to it.
//!
//! The document is processed by [`template`] and [`placeholders`], checked by [`document`], and sent byte
//! for byte next to goloo's two parts: [`identity`], which is independent of it, and [`provision`], which is merged
//! after it. Multipass doesn't support parts: for it [`merge`] writes both into the document's text.

#![warn(missing_docs)]

mod bake;
mod check;
mod client_key;
mod compose;
mod construct;
mod diagnostic;
mod document;
mod identity;
mod limits;
mod merge;
mod names;
mod own_identity;
mod placeholders;
mod private_network;
mod provision;
mod reprovision;
mod scalar;
mod schema;
mod script;
mod strict;
mod targets;
mod template;
mod tree;
mod update;

pub use bake::{bake_key, generalize_script};
pub use client_key::{NoClientKey, has_client_key, with_client_key};
pub use compose::{ComposeInput, Composed, compose, compose_any_shape, needs_a_boot, per_machine_values};
pub use diagnostic::FILE;
pub use identity::{ACCOUNT, KEY_FOLDER, account};
pub use names::names_script;
pub use own_identity::{own_identity_input, own_identity_script};
pub use private_network::network_script;
pub use reprovision::{BOOTED, TOOK_USER_DATA, reprovision_script};
pub use script::squeezed;
pub use template::{InProcessRenderer, Template, TemplateRenderer, used_machine_variables};
pub use update::{GuestUpdate, UsersUpdate, update_script};
