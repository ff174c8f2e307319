//! Environments: finds and reads `goloo.json`, brings its machines up and takes them down. The pure part is
//! [`goloo_model::environment`]; the operations are those of [`actions`](crate::actions).

mod addresses;
mod down;
pub mod graph;
mod members;
mod source;
mod stacks;
mod up;

pub use crate::error::environment::{EnvironmentError, MemberRefusal};
pub use down::PlannedDown;
pub use members::EnvironmentLock;
pub use source::EnvironmentSource;
pub use up::{MemberAction, MemberDone, Permitted, PlannedUp, UpOptions, UpStep};
