//! Tests of the engine and the test tools, in one program so that it is linked only once.
#![allow(clippy::unwrap_used, missing_docs)]

mod apply_properties;
mod aws_emulators;
mod common;
mod documents;
mod engine_crash;
mod engine_disks;
mod engine_network;
mod engine_wait;
mod fault_proxy;
mod guest_bake;
mod guest_reprovision;
mod guest_root;
mod guest_update;
mod memory_store;
mod parsers;
mod register;
mod way_in;
