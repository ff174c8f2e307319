//! The user's `config.json`: as written ([`StackFile`]), and resolved ([`ResolvedStack`]).

pub mod resolved;

pub use resolved::{Dns, ImageRef, KeySource, Mount, PortForward, ResolvedStack, Size, User};
