//! What kind of file the command is.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

/// `e_type` of the ELF header, and its value for a file that can be loaded at any address.
const TYPE: std::ops::Range<usize> = 16..18;
const DYNAMIC: u16 = 3;

#[test]
fn the_command_is_position_independent() {
    let file = std::fs::read(common::goloo()).unwrap();
    assert_eq!(&file[..4], b"\x7fELF");
    assert_eq!(u16::from_ne_bytes(file[TYPE].try_into().unwrap()), DYNAMIC);
}
