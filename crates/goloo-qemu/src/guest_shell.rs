//! How a supervisor runs a script in its guest. This crate can't log in itself: the program that starts the supervisor
//! passes the command that does.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use goloo_model::access::PublicHostKey;
use goloo_model::name::{VmId, VmName};

/// Where a machine's SSH server is, and what it proves itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPlace {
    /// The state folder, which has goloo's keys.
    pub state: PathBuf,
    #[expect(missing_docs, reason = "the name says it")]
    pub id: VmId,
    #[expect(missing_docs, reason = "the name says it")]
    pub name: VmName,
    #[expect(missing_docs, reason = "the name says it")]
    pub address: Ipv4Addr,
    #[expect(missing_docs, reason = "the name says it")]
    pub ssh_port: u16,
    /// The only host key that is accepted.
    pub host_key: PublicHostKey,
}

/// Makes the command that runs a script with `/bin/sh` as goloo's account in the guest, with the command's own standard
/// input and output.
pub type GuestShell = fn(&GuestPlace, script: &str) -> io::Result<Command>;
