//! goloo's AWS provider: one CloudFormation stack for each VM, through the official SDK. The SDK's types stay within
//! this crate.

#![warn(missing_docs)]

pub mod ami;
mod ami_check;
pub mod arn;
mod bake;
mod baked_images;
mod capacity;
mod changes;
mod checkip;
mod context;
mod deployed;
pub mod design;
pub mod details;
pub mod dns;
mod doctor;
mod environment_group;
pub mod error;
mod events;
mod factory;
pub mod instance_types;
mod instances;
mod names;
mod network;
mod orphan;
mod pages;
mod provider;
pub mod publish;
pub mod record_type;
mod renaming;
mod resource_ref;
mod retry;
mod session;
mod settings;
mod site;
mod stack;
mod stack_update;
mod stage;
mod swap;
pub mod tags;
pub mod template;
mod user_data;
mod volume;
mod zones;

pub use context::AwsProvider;
pub use doctor::{doctor, is_set_up};
pub use error::AwsError;
pub use factory::{INFO, provider};
pub use settings::{PollIntervals, Settings};
