//! The user's `config.json`: as written ([`StackFile`]), and resolved ([`ResolvedStack`]).

pub mod resolved;

pub use resolved::{Dns, ImageRef, KeySource, Mount, PortForward, ResolvedStack, Size, User};
#[derive(Debug, Clone)] pub struct Problem { pub file: String, pub pointer: String, pub line: usize, pub column: usize, pub message: String, pub hint: String }
pub fn with_github_users(_: ResolvedStack, _: &[String]) -> ResolvedStack { todo!() }
pub fn duration_seconds(_: &str) -> Option<u64> { todo!() }
pub fn json_schema() -> serde_json::Value { todo!() }
pub fn parse_image(_: &str, _: &std::path::Path, _: &std::path::Path) -> Result<ImageRef, Problem> { todo!() }
