//! goloo's types and rules, without I/O.
//!
//! A [`spec::StackFile`] as written is resolved to a [`spec::ResolvedStack`]; a [`record::Record`] holds what goloo
//! knows about a VM. [`store::Store`] and [`provider::Provider`] are the contracts of stores and providers.

#![warn(missing_docs)]

pub mod access;
pub mod authorized_key;
pub mod automatic_ports;
pub mod aws_error;
pub mod aws_ids;
pub mod change;
pub mod check;
pub mod database_error;
pub mod dns;
pub mod environment;
pub mod events;
pub mod guest;
pub mod hint;
pub mod host_key;
pub mod host_names;
pub mod lock_table_error;
pub mod name;
pub mod printable;
pub mod provider;
pub mod provider_id;
pub mod provider_info;
pub mod query;
pub mod record;
pub mod redirect;
pub mod secret;
pub mod spec;
pub mod store;
pub mod tags;
pub mod text;
pub mod time;
pub mod url_path;
pub mod usage;
