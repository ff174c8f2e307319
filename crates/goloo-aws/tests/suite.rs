//! The conformance suite, against moto or against a real account.
#![allow(clippy::unwrap_used)]

mod common;

use common::account::Account;

goloo_testkit::provider_suite!(Account::new);
