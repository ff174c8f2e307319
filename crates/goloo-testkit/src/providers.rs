//! What the providers are, for tests of crates that don't depend on them. A test of `goloo` compares it with the
//! providers themselves.

use goloo_model::change::{ChangeCosts, Cost};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{
    ImageKey, LocalChoice, MachinePlace, ProviderInfo, UserDataFeatures, UserDataForm, UserDataLimit,
};

/// QEMU.
pub const QEMU: ProviderInfo = ProviderInfo {
    id: ProviderId::known("qemu"),
    title: "QEMU",
    place: MachinePlace::Loopback,
    local_choice: LocalChoice::Otherwise,
    user_data: UserDataFeatures {
        form: UserDataForm::Parts,
        limit: None,
        mounts_in_guest: true,
        adds_default_user: false,
    },
    image_key: ImageKey::Image,
    changes: ChangeCosts {
        size: Cost::Restart,
        disk: Cost::Now,
        ports: Cost::Now,
        auto_ports: Cost::Restart,
        mounts: Cost::Restart,
        restart_can_wait: true,
        ..ChangeCosts::NONE
    },
};

/// Multipass.
pub const MULTIPASS: ProviderInfo = ProviderInfo {
    id: ProviderId::known("multipass"),
    title: "Multipass",
    place: MachinePlace::Host,
    local_choice: LocalChoice::IfInstalled,
    user_data: UserDataFeatures {
        form: UserDataForm::OneDocument,
        limit: None,
        mounts_in_guest: false,
        adds_default_user: true,
    },
    image_key: ImageKey::Image,
    changes: ChangeCosts {
        size: Cost::Restart,
        disk: Cost::Restart,
        ports: Cost::Ignored,
        mounts: Cost::Now,
        ..ChangeCosts::NONE
    },
};

/// AWS.
pub const AWS: ProviderInfo = ProviderInfo {
    id: ProviderId::known("aws"),
    title: "AWS",
    place: MachinePlace::Elsewhere,
    local_choice: LocalChoice::Named,
    user_data: UserDataFeatures {
        form: UserDataForm::Parts,
        limit: Some(UserDataLimit { bytes: 16_384, of: "EC2" }),
        mounts_in_guest: false,
        adds_default_user: false,
    },
    image_key: ImageKey::Os,
    changes: ChangeCosts {
        size: Cost::Restart,
        disk: Cost::Now,
        ports: Cost::Now,
        auto_ports: Cost::Ignored,
        ssh_cidr: Cost::Now,
        mounts: Cost::Ignored,
        dns: Cost::Now,
        instance_type: Cost::Restart,
        cloud: Cost::Replace,
        ttl_of_provider: true,
        restart_can_wait: false,
    },
};
