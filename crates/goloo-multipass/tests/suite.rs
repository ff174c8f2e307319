//! The conformance suite, on the stand-in or on the real Multipass.
#![allow(clippy::unwrap_used)]

mod common;

use common::World;

goloo_testkit::provider_suite!(World::new);
