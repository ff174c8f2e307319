//! The provider's id and features.

use goloo_model::change::{ChangeCosts, Cost};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{
    ImageKey, LocalChoice, MachinePlace, ProviderInfo, UserDataFeatures, UserDataForm,
};

/// What the provider is.
pub const INFO: ProviderInfo = ProviderInfo {
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
        // Its machines have addresses of their own.
        ports: Cost::Ignored,
        mounts: Cost::Now,
        ..ChangeCosts::NONE
    },
};
