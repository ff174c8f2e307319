//! Environments: machines that belong together, as `goloo.json` describes them. Pure: what the file says, in which order
//! its machines are worked on, and their private addresses.

pub mod addresses;
mod definition;
mod file;
mod order;
#[cfg(test)]
mod tests;

pub use definition::{COUNT_MAX, ENVIRONMENT_FILE, Environment, EnvironmentMachine, pointer_in_environment};
pub use file::{EnvironmentFile, MachineFile, environment_schema};
pub use order::{OrderedMember, Selection, UnknownMachine, ordered, removed};
