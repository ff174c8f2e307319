//! Lets the supervisor of a QEMU log in to its machine.

use std::io;
use std::net::IpAddr;
use std::process::Command;

use goloo_model::guest::{self, SshTarget};
use goloo_qemu::GuestPlace;

use super::key_folder::{KeyFolder, by_sh};

/// The command that runs a script in the machine, as goloo's account.
///
/// # Errors
/// When the machine's host key isn't the pinned one, or `ssh` can't use the path of a file.
pub fn guest_shell(place: &GuestPlace, script: &str) -> io::Result<Command> {
    let target = SshTarget {
        host: IpAddr::from(place.address).into(),
        port: place.ssh_port,
        user: goloo_cloudinit::account(),
        host_key: place.host_key.clone(),
        name: place.name.clone(),
        alias: guest::alias(&place.id),
    };
    let options = KeyFolder::new(&place.state).options(&target).map_err(io::Error::other)?;
    let mut ssh = Command::new("ssh");
    // The process lives long: it must not keep the machine's folder busy.
    ssh.current_dir("/").args(options).args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"]);
    ssh.args(["-T", "--", &target.host, &by_sh(script)]);
    Ok(ssh)
}
