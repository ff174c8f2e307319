//! The guest's side of a private network: a static address on one network card, found by its MAC address, whatever
//! manages the machine's other network cards.

use goloo_model::record::PrivateAddress;

use crate::identity::{NETWORK_SCRIPT, SETUP, Script, network_files};
use crate::script::squeezed;

/// A script that gives a machine its address now and at later boots, and waits for its network card. It runs as root, is
/// idempotent, and fails if there is no such card.
pub fn network_script(address: PrivateAddress) -> String {
    let mut script = Script::new(&squeezed(SETUP));
    network_files(&mut script, address);
    script.line("reload_changed_units");
    script.line(&format!("exec /bin/sh {NETWORK_SCRIPT} wait"));
    script.into_text()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Command, Output};

    use super::*;
    use crate::identity::NETWORK;

    /// A system with network cards, in which every program that changes something only says so.
    struct Guest(tempfile::TempDir);

    impl Guest {
        fn new() -> Self {
            let guest = Self(tempfile::tempdir().unwrap());
            for program in ["ip", "nmcli"] {
                let path = guest.0.path().join(program);
                fs::write(&path, format!("#!/bin/sh\necho {program} $*\n")).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            guest
        }

        fn nic(&self, name: &str, mac: &str) -> std::path::PathBuf {
            let folder = self.0.path().join("class").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("address"), format!("{mac}\n")).unwrap();
            folder
        }

        fn card(&self, name: &str, mac: &str) -> std::path::PathBuf {
            let folder = self.nic(name, mac);
            symlink("/dev/null", folder.join("device")).unwrap();
            folder
        }

        fn run(&self, arguments: &[&str]) -> Output {
            let class = self.0.path().join("class");
            let script = NETWORK.replace("/sys/class/net", class.to_str().unwrap());
            let script = script.replace("PATH=", "OTHER=").replace("export PATH", "").replace("sleep 1", ":");
            let settings = "mac=02:67:6c:58:03:05\naddress=10.88.3.5/24\n";
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("{settings}{script}"), "sh"]).args(arguments);
            command.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display())).output().unwrap()
        }
    }

    fn said(output: &Output) -> String {
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    #[test]
    fn the_card_with_the_mac_address_gets_the_address_and_no_other_one() {
        let guest = Guest::new();
        guest.card("eth0", "52:54:00:12:34:56");
        guest.nic("br0", "02:67:6c:58:03:05");
        guest.card("eth1", "02:67:6c:58:03:05");
        let output = guest.run(&[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            said(&output),
            "ip link set dev eth1 mtu 9000\nip link set dev eth1 up\n\
             ip address replace 10.88.3.5/24 brd + dev eth1\n"
        );
    }

    #[test]
    fn a_card_that_is_missing_is_an_error_only_if_it_was_waited_for() {
        let guest = Guest::new();
        guest.card("eth0", "52:54:00:12:34:56");
        let output = guest.run(&[]);
        assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
        let output = guest.run(&["wait"]);
        assert!(!output.status.success() && said(&output).is_empty(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("02:67:6c:58:03:05"));
    }

    #[test]
    fn a_card_that_is_part_of_a_bridge_is_left_alone() {
        let guest = Guest::new();
        symlink("../br0", guest.card("eth1", "02:67:6c:58:03:05").join("master")).unwrap();
        guest.nic("br0", "02:67:6c:58:03:05");
        let output = guest.run(&["wait"]);
        assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
    }

    #[test]
    fn the_files_name_the_card_and_are_valid_shell() {
        let script = network_script("10.88.3.5/24".to_owned().try_into().unwrap());
        for part in [
            "ATTR{address}==\"02:67:6c:58:03:05\"",
            "MACAddress=02:67:6c:58:03:05",
            "unmanaged-devices+=mac:02:67:6c:58:03:05",
            "address=10.88.3.5/24\n",
            // A machine that was just connected may not have found its card yet.
            &format!("exec /bin/sh {NETWORK_SCRIPT} wait\n"),
        ] {
            assert!(script.contains(part), "{part}");
        }
        let checked = Command::new("/bin/sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}
