//! `goloo` without arguments: what there is, and how to begin.

use crate::complete;
use crate::exit;
use crate::output::Ui;

const NAMES_SHOWN: usize = 8;

const FIRST_COMMANDS: &str = "Get started:
  goloo init web     write a stack, the files that a VM is created from
  goloo create web   create a VM from it
  goloo ssh web      log in to the VM
  goloo delete web   delete the VM; the archive keeps its record

Run `goloo help` to list all commands, or `goloo help COMMAND` for one of them.";

pub fn run(ui: &Ui) -> u8 {
    ui.line("goloo creates the same virtual machine on your own computer or in AWS.");
    ui.line("");
    if let Some(vms) = existing(&complete::local_vm_names()) {
        ui.line(&vms);
        ui.line("");
    }
    ui.document(FIRST_COMMANDS);
    exit::DONE
}

/// `None` where there are no VMs, or they can't be read without waiting: then this screen is still useful.
fn existing(names: &[String]) -> Option<String> {
    let shown = names.get(..NAMES_SHOWN).unwrap_or(names).join(", ");
    match names.len() {
        0 => None,
        count if count > NAMES_SHOWN => {
            Some(format!("VMs: {shown} and {} more; run `goloo list` to list them", count - NAMES_SHOWN))
        }
        _ => Some(format!("VMs: {shown}; run `goloo list` for their state")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_shown_and_the_others_counted() {
        let names = |count: usize| (0..count).map(|n| format!("vm{n}")).collect::<Vec<_>>();
        assert_eq!(existing(&names(0)), None);
        assert_eq!(
            existing(&names(2)).expect("there are VMs"),
            "VMs: vm0, vm1; run `goloo list` for their state"
        );
        let many = existing(&names(10)).expect("there are VMs");
        assert!(many.starts_with("VMs: vm0, vm1, ") && many.contains("vm7 and 2 more"), "{many}");
    }
}
