//! Selects the account in which the conformance suite runs.

use std::time::Duration;

use async_trait::async_trait;
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::Record;
use goloo_testkit::provider_suite::Bench;

use super::moto::Moto;
use super::real::Real;

/// Whether the suite should use a real account.
pub fn is_real() -> bool {
    std::env::var_os("GOLOO_TEST_AWS").is_some_and(|value| value == "real")
}

/// An account that can be inspected without goloo.
pub struct Account(Box<dyn Bench>);

impl Account {
    /// Chosen by the environment.
    pub fn new() -> Self {
        Self(if is_real() { Box::new(Real::new()) } else { Box::new(Moto::new()) })
    }
}

#[async_trait]
impl Bench for Account {
    fn provider(&self) -> Box<dyn Provider> {
        self.0.provider()
    }

    fn machine(&self, name: &str) -> Machine {
        self.0.machine(name)
    }

    async fn ledger(&self) -> Vec<String> {
        self.0.ledger().await
    }

    async fn running(&self) -> usize {
        self.0.running().await
    }

    async fn crash(&self, record: &Record) {
        self.0.crash(record).await;
    }

    fn stride(&self) -> usize {
        self.0.stride()
    }

    fn patience(&self) -> Duration {
        self.0.patience()
    }
}
