//! What reaches cloud-init: the user's document and goloo's part beside it.
#![allow(missing_docs)]
use crate::{record::*, spec::*};
pub struct HostKey { pub private_openssh: String, pub public_openssh: String }
impl HostKey { pub fn generate() -> Self { todo!() } pub fn from_private(_: &str) -> Result<Self, std::fmt::Error> { todo!() } }
pub struct ComposeInput<'a> { pub stack: &'a ResolvedStack, pub users: &'a [UserKeys], pub client_key: &'a str, pub host_key: &'a HostKey, pub provider: ProviderKind }
