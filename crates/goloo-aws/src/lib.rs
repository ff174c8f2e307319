//! goloo's AWS provider: one CloudFormation stack for each VM, by the official SDK. What the SDK says and
//! takes stays in this crate.

pub mod ami;
pub mod arn;
mod ca_bundle;
mod checkip;
pub mod design;
pub mod details;
pub mod dns;
mod doctor;
pub mod error;
mod events;
pub mod instance_types;
mod instances;
mod lead;
mod names;
mod network;
mod pages;
mod provider;
mod publish;
mod session;
mod settings;
mod stack;
mod strays;
mod swap;
pub mod tags;
pub mod template;
mod user_data;
mod zones;

pub use doctor::{doctor, is_set_up};
pub use error::AwsError;
pub use provider::AwsProvider;
pub use settings::{Pace, Settings};
