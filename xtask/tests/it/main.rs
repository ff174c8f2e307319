//! The packages of a release, made from the binary of this build, and the script that installs them.
#![allow(clippy::unwrap_used, reason = "a test's panic is its message")]

mod install_script;
mod packages;
mod programs;
