//! What the providers are, for tests of crates that don't depend on them. A test of `goloo` compares it with the
//! providers themselves.

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
};
