//! A VM, and the instance that it is at Multipass.

use goloo_model::name::{VmId, VmName};
use goloo_model::record::Record;

use crate::context::instance_name;

/// A VM and its Multipass instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VmInstance<'a> {
    pub(crate) instance: &'a str,
    pub(crate) name: &'a VmName,
    pub(crate) id: &'a VmId,
    /// The recorded address.
    pub(crate) ip: Option<&'a str>,
}

impl<'a> VmInstance<'a> {
    pub(crate) fn of(record: &'a Record) -> Self {
        Self { instance: instance_name(record), name: &record.name, id: &record.id, ip: record.ip() }
    }
}
