//! The packages of a release, made from the binary of this build, the script that installs them, and the set-up of a
//! machine for development.
#![allow(clippy::unwrap_used, reason = "a test's panic is its message")]

mod install_script;
mod installed_package;
mod packages;
mod programs;
mod release_build;
mod set_up;
