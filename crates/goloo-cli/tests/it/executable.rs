//! The file type of the executable.
#![cfg(target_os = "linux")]
use crate::common;

/// `e_type` in the ELF header, and its value for a position-independent file.
const TYPE: std::ops::Range<usize> = 16..18;
const DYNAMIC: u16 = 3;

#[test]
fn the_executable_is_position_independent() {
    let file = std::fs::read(common::goloo()).unwrap();
    assert_eq!(&file[..4], b"\x7fELF");
    assert_eq!(u16::from_ne_bytes(file[TYPE].try_into().unwrap()), DYNAMIC);
}
