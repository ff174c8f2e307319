//! The conformance suite, against the stand-in or the real Multipass.
#![allow(clippy::unwrap_used)]

mod common;

use common::World;

goloo_testkit::provider_suite!(World::new);
