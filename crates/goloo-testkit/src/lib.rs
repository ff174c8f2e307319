//! Test doubles and conformance suites for goloo's traits.

pub mod aws_answers;
pub mod aws_emulators;
pub mod fake_provider;
pub mod fault_proxy;
pub mod full_zones;
pub mod guest_root;
pub mod image_server;
pub mod memory_store;
pub mod mutate;
pub mod programs;
pub mod provider_suite;
pub mod providers;
pub mod s3_services;
pub mod samples;
pub mod sim_fs;
pub mod store_suite;
pub mod test_cache;
