//! The conformance suite, against moto or against a real account.

use crate::common::account::Account;

goloo_testkit::provider_suite!(Account::new);
