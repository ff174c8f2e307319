//! Runs user-data through an image's own cloud-init and sshd without booting: seconds instead of a minute. Requires
//! root, and Linux with overlayfs.
//!
//! Each run has its own namespaces (mount, pid, net, uts, ipc), the image's tree under an in-memory overlay, and only
//! the loopback interface. The stages run as in cloud-init's units, and sshd starts between them according to
//! `ssh.service` and its drop-ins. A script in place of `systemctl` (`systemctl.py`) does systemd's part and logs its
//! callers.

mod boot;
mod image;
mod root;

pub use boot::{Boot, Seed, Stage};
pub use image::GuestImage;
pub use root::{Call, Finished, GuestRoot, Login};
