//! The user's `config.json`: as written ([`StackFile`]), and resolved ([`ResolvedStack`]).
//!
//! All problems are reported at once. The structure (unknown keys, wrong types) is checked against the
//! JSON Schema of [`StackFile`], which is the only description of the format; values are
//! checked in [`resolve`].

mod diagnostic;
mod file;
pub mod images;
mod json;
mod limits;
pub mod old_state;
mod ports;
mod resolve;
pub mod resolved;
mod shape;
mod typed;
mod values;

pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
pub use diagnostic::{nearest, position};
pub use file::{BakeKind, PortFile, StackFile, json_schema};
pub use json::child as child_pointer;
pub use json::read_config;
pub use limits::{VALUES_MAX, beyond};
pub use ports::{FORWARDED_PORTS_MAX, PortForward, PortForwardError, PortRange, Protocol, SSH_PORT};
pub use resolve::{
    CPUS_MAX, DNS_TTL, MEMORY_MAX, MEMORY_MIN, Resolved, Sources, diagnostic_at_pointer, diagnostic_in_file,
    parse_image, resolve, with_github_users,
};
pub use resolved::{Dns, ImageRef, KeySource, Mount, ResolvedStack, Size, SshSource, User};
pub use shape::ConfigSection;
pub use typed::{InvalidValue, read_json};
pub use values::{duration_seconds, is_domain, is_github_user, is_mount_target, is_safe_url, ssh_source};
