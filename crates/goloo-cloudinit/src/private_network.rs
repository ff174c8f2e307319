//! The guest's side of a private network: a static address on one network card, found by its MAC address, whatever
//! manages the machine's other network cards.

use goloo_model::record::PrivateAddress;

use crate::identity::{SETUP, Script};
use crate::script::squeezed;

const NETWORK: &str = include_str!("guest/network.sh");
const UNIT: &str = include_str!("guest/goloo-network.service");
const PATH: &str = "/opt/goloo/network";

/// A script that gives a machine its address now and at later boots, and waits for its network card. It runs as root, is
/// idempotent, and fails if there is no such card.
pub fn network_script(address: PrivateAddress) -> String {
    let mut script = Script::new(&squeezed(SETUP));
    files(&mut script, address);
    script.line("! has_systemd || systemctl daemon-reload");
    script.line(&format!("exec /bin/sh {PATH} wait"));
    script.into_text()
}

/// What the machine needs at each boot.
pub(crate) fn files(script: &mut Script, address: PrivateAddress) {
    let mac = address.mac();
    let text = format!("#!/bin/sh\nmac={mac}\naddress={address}\n{}", squeezed(NETWORK));
    script.file("0755", PATH, &text);
    let rule =
        format!("ACTION==\"add\", SUBSYSTEM==\"net\", ATTR{{address}}==\"{mac}\", RUN+=\"/bin/sh {PATH}\"");
    script.file("0644", "/etc/udev/rules.d/90-goloo-network.rules", &rule);
    let unmanaged = format!("[Match]\nMACAddress={mac}\n[Link]\nUnmanaged=yes");
    script.file("0644", "/etc/systemd/network/00-goloo-network.network", &unmanaged);
    script.here(
        "[ ! -d /etc/NetworkManager ] || put 0644 /etc/NetworkManager/conf.d/90-goloo-network.conf",
        &format!("[keyfile]\nunmanaged-devices+=mac:{mac}"),
    );
    script.unit("goloo-network.service", UNIT);
}

/// Starts what the files describe.
pub(crate) fn start(script: &mut Script) {
    script.line(&format!("run_unit goloo-network.service /bin/sh {PATH}"));
}
