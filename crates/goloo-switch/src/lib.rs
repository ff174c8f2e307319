//! The private network between the QEMU machines of an environment: an Ethernet switch that needs no rights. QEMU's
//! network cards and the switch are datagram sockets in a folder that only its user can enter. Each machine's socket has
//! its address as its name, and its MAC address follows from that, so the switch has nothing to learn, and another one
//! can take its place at any time.

#![warn(missing_docs)]

mod folder;
mod frame;
mod ports;
mod switch;

pub use folder::{NetworkFolder, member_socket, switch_end};
pub use frame::{Destination, FRAME_MAX, destination};
pub use switch::{SWITCH, answer, arguments};
