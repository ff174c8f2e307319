//! Runs user-data through an image's own cloud-init and sshd without booting: seconds in place of a
//! minute. Root is needed, and Linux with overlayfs.
//!
//! Each run has namespaces of its own (mount, pid, net, uts, ipc), the image's tree below an overlay in
//! memory, and the loopback interface alone. The stages run as the units of that cloud-init run them, and
//! sshd starts between them as `ssh.service` and its drop-ins say. What systemd itself would do is done by
//! a script in place of `systemctl` (`systemctl.py`), which also logs who called it.

mod boot;
mod image;
mod root;

pub use boot::{Boot, Seed, Stage};
pub use image::GuestImage;
pub use root::{Call, Finished, GuestRoot, Login};
