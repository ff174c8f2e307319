//! What a provider created for a VM.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::Extra;
use super::checks::{is_kind, is_resource_id};
use crate::name::OperationId;
use crate::text::ValueError;

/// Something that a provider created or was about to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// What it is: `qemu-directory`, `cloudformation-stack`, …
    pub kind: String,
    /// Its id at the provider; the format depends on the kind.
    pub id: String,
    /// The operation that created it.
    pub operation: OperationId,
    /// Fields of a later version.
    #[serde(flatten)]
    pub extra: Extra,
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text {
            kind: String,
            id: String,
            operation: OperationId,
            #[serde(flatten)]
            extra: Extra,
        }
        let Text { kind, id, operation, extra } = Text::deserialize(deserializer)?;
        if !is_kind(&kind) {
            return Err(D::Error::custom(ValueError::new("a kind of resources", &kind)));
        }
        if !is_resource_id(&kind, &id) {
            let error = ValueError::new("the id of such a resource", &id);
            return Err(D::Error::custom(format_args!("{kind}: {error}")));
        }
        Ok(Self { kind, id, operation, extra })
    }
}
