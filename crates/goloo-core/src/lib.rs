//! goloo's words, rules and order, with no I/O of its own.
//!
//! Data flows one way: a [`spec::StackFile`] as written becomes a [`spec::ResolvedStack`], that
//! becomes a [`plan::Plan`], and the [`engine`] carries it out against a [`provider::Provider`],
//! keeping the [`store::Store`] one step ahead of the world.

pub mod access;
pub mod authorized_key;
pub mod aws_error;
pub mod cloud_init;
pub mod dns;
pub mod engine;
pub mod events;
pub mod finding;
pub mod guest;
pub mod host_names;
pub mod name;
pub mod plan;
pub mod printable;
pub mod provider;
pub mod query;
pub mod record;
pub mod redirect;
pub mod secret;
pub mod spec;
pub mod store;
pub mod tags;
pub mod text;
pub mod time;
