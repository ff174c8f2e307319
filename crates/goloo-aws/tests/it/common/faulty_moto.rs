//! goloo, the fault proxy, and moto behind it.

use goloo_aws::AwsProvider;
use goloo_testkit::fault_proxy::FaultProxy;

use super::moto::{Moto, REGION};
use super::settings;

/// moto behind a fault proxy. Tests of one subject add what they need.
pub struct FaultyMoto {
    pub moto: Moto,
    pub faults: FaultProxy,
}

impl FaultyMoto {
    pub fn new() -> Self {
        let moto = Moto::new();
        Self { faults: FaultProxy::start(&moto.queue.endpoint), moto }
    }

    /// The provider of a new goloo process.
    pub fn provider(&self) -> AwsProvider {
        provider(&self.faults)
    }
}

/// The provider of a new goloo process behind a fault proxy.
pub fn provider(faults: &FaultProxy) -> AwsProvider {
    AwsProvider::new(settings(faults.endpoint(), REGION))
}
