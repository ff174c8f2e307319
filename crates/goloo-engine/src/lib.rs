//! Operations on VMs, always in this order: **durable intent, provider call, durable result**.
//!
//! Every operation takes the VM's lock, records what it is about to do, calls the provider, and
//! saves the result. So after a crash at any point, the store contains a record that refers
//! to everything that was created. Neither commands nor providers save records.

#![warn(missing_docs)]

mod adopt;
mod apply;
mod autostart;
mod bake;
mod clock;
mod clone;
mod create;
mod delete;
mod dns;
mod engine;
mod error;
mod export;
mod forget;
mod guest_script;
mod hostname;
mod hosts;
mod import;
mod interrupt;
mod label;
mod machine_name;
mod network_names;
mod own_identity;
pub mod plan;
mod power;
mod private_network;
mod protect;
mod provision;
mod rebuild;
mod register;
mod rename;
mod replace;
mod reprovision;
mod resume;
mod snapshot;
mod takeover;
mod verdict;
mod work;

pub use adopt::{AdoptRequest, adopt_lock};
pub use apply::{Applied, ApplyRequest, GuestInputs};
pub use autostart::set_autostart;
pub use bake::Baked;
pub use clone::Cloned;
pub use create::{CreateRequest, Created, ReplacementRequest, taken};
pub use dns::DnsReport;
pub use engine::{EmergencyDump, Engine, refuse_elsewhere};
pub use error::EngineError;
pub use export::VmAtRest;
pub use forget::forget;
pub use hostname::GuestHostname;
pub use import::ImportRequest;
pub use interrupt::Interrupt;
pub use label::change_tags;
pub use machine_name::free_machine_name;
pub use protect::{protect, refuse_protected};
pub use rebuild::{Rebuild, RebuildError, Reopen, ResumeInputs};
pub use register::{register, same_machine, was_migrated_as};
pub use rename::Renamed;
pub use replace::{Replaced, free_name};
pub use reprovision::Reprovision;
pub use resume::{Agreed, Resumed};
pub use verdict::{AS_ROOT, ERRORS_MAX, GuestReport, Verdict, report_command};
