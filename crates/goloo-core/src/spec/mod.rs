//! The user's `config.json`: as written ([`StackFile`]), and resolved ([`ResolvedStack`]).
//!
//! All that is wrong is reported at once. Shapes (unknown keys, wrong types) are checked against the
//! JSON Schema of [`StackFile`], so there is one description of what may be written; values are
//! checked in [`resolve`].

mod file;
pub mod images;
mod json;
mod limits;
pub mod old_state;
mod problem;
mod resolve;
pub mod resolved;
mod shape;
mod typed;
mod values;

pub use file::{StackFile, json_schema};
pub(crate) use json::child as child_pointer;
pub(crate) use limits::VALUES_MAX;
pub use problem::Problem;
pub(crate) use problem::{nearest, position};
pub use resolve::{DNS_TTL, Resolved, Sources, parse_image, problem_at_pointer, resolve, with_github_users};
pub use resolved::{Dns, ImageRef, KeySource, Mount, PortForward, ResolvedStack, Size, SshSource, User};
pub use typed::{Misfit, read_json};
pub use values::{duration_seconds, is_domain, is_github_user, is_safe_url, ssh_source};
