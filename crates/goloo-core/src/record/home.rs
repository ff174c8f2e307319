//! Which host a VM belongs to. A store can be shared, and a machine under QEMU or Multipass can't: from
//! elsewhere its name may stand for another machine, or for none.

use super::Record;

impl Record {
    /// The name of the host that this VM belongs to, when that isn't `here` (a host's identity, which a
    /// rename doesn't change). What runs in AWS belongs to no host.
    pub fn other_host(&self, here: &str) -> Option<&str> {
        let elsewhere = self.provider.is_local() && self.created_by.host_id != here;
        elsewhere.then_some(self.created_by.host.as_str())
    }
}
