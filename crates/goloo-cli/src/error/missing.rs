//! What was named and doesn't exist, and what may be meant instead.

use std::collections::BTreeSet;

use goloo_model::name::VmName;
use goloo_model::spec::nearest;

/// Something that doesn't exist, whose name may have been mistyped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A VM.
    Vm(VmName),
    /// A stack.
    Stack(VmName),
}

impl Missing {
    /// The hint that names a VM or a stack of a similar name, or the command that makes a VM of its stack; `None` if there is
    /// neither.
    pub(super) fn hint(
        &self,
        vms: impl FnOnce() -> Vec<String>,
        stacks: impl FnOnce() -> BTreeSet<VmName>,
    ) -> Option<String> {
        match self {
            Self::Vm(missing) => {
                let vms = vms();
                let asked = similar(missing, vms.iter().map(String::as_str));
                asked.map(|asked| format!("{asked} `goloo list` lists all VMs")).or_else(|| {
                    stacks().contains(missing).then(|| {
                        format!("`goloo list --all` lists all VMs; `goloo create {missing}` creates one from the stack \"{missing}\"")
                    })
                })
            }
            Self::Stack(missing) => {
                let stacks = stacks();
                let asked = similar(missing, stacks.iter().map(VmName::as_str));
                asked.map(|asked| format!("{asked} `goloo config list` lists your stacks"))
            }
        }
    }
}

fn similar<'n>(missing: &VmName, names: impl Iterator<Item = &'n str>) -> Option<String> {
    nearest(missing.as_str(), names).map(|near| format!("did you mean \"{near}\"?"))
}
