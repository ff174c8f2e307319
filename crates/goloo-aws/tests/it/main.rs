//! Tests of the AWS provider, in one program so that it is linked only once.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod bake;
mod changes;
mod common;
mod environment_group;
mod faults;
mod ministack;
mod moto;
mod names_at_stop;
mod policy;
mod preconditions;
mod suite;
mod swap;
mod templates;
