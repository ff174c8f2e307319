//! What a provider is like, as data: code beside the providers asks these features and never which provider it is.

use crate::change::ChangeCosts;
use crate::provider_id::ProviderId;

/// A provider's features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderInfo {
    /// Its id, in records, configs and on the command line.
    pub id: ProviderId,
    /// Its name for people.
    pub title: &'static str,
    /// Where its machines are.
    pub place: MachinePlace,
    /// Whether `--local` means it when neither the settings nor the command line name a provider.
    pub local_choice: LocalChoice,
    /// Which user-data it gives to its machines.
    pub user_data: UserDataFeatures,
    /// Which key of a stack names the image.
    pub image_key: ImageKey,
    /// What a change of each of its settings takes.
    pub changes: ChangeCosts,
}

impl ProviderInfo {
    /// Whether its machines belong to one host and one state folder of it.
    pub fn is_host_bound(&self) -> bool {
        self.place != MachinePlace::Elsewhere
    }
}

/// Where a provider's machines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachinePlace {
    /// On this computer, reached only through its loopback.
    Loopback,
    /// On this computer, with addresses of their own.
    Host,
    /// In a service, for everyone with access to it.
    Elsewhere,
}

/// When a provider is the one of local VMs although nobody has named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalChoice {
    /// When it is installed: before all that are [`LocalChoice::Otherwise`].
    IfInstalled,
    /// When no other is.
    Otherwise,
    /// Never: it has to be named.
    Named,
}

/// Which image key of a stack a provider reads; it decides which user the image makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKey {
    /// `vm.image`
    Image,
    /// `vm.os`
    Os,
}

/// Which user-data a provider gives to its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserDataFeatures {
    /// Its form.
    pub form: UserDataForm,
    /// How long it may be.
    pub limit: Option<UserDataLimit>,
    /// Whether the machine mounts `vm.mounts` itself (9p); otherwise the provider does.
    pub mounts_in_guest: bool,
    /// Whether the provider adds the image's own user to every list of users.
    pub adds_default_user: bool,
}

/// The form of user-data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserDataForm {
    /// A multipart message: the user's document beside goloo's parts.
    Parts,
    /// One YAML document, into which goloo's part is merged.
    OneDocument,
}

/// A limit on user-data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserDataLimit {
    /// In bytes, before any encoding. Longer ones are compressed.
    pub bytes: usize,
    /// Whose limit it is, for people.
    pub of: &'static str,
}
