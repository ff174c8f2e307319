//! How a VM differs from what its stack and its overrides say, and what each change takes. Pure: `--dry-run` prints
//! it, the engine carries it out.

mod cost;
mod diff;
mod setting;

pub use cost::{ChangeCosts, Cost};
pub use diff::{Documents, SettingChange, changes};
pub use setting::Setting;
