//! Tests of the stores, in one program that is linked once.
#![allow(clippy::unwrap_used, missing_docs)]

mod dir_crash;
mod dir_processes;
mod dir_rules;
mod dir_suite;
mod foreign_rows;
mod object_answers;
mod object_common;
mod object_faults;
mod object_kills;
mod object_processes;
mod object_services;
mod object_suite;
mod object_sweeps;
mod object_table;
mod object_takeover;
mod object_writes;
mod sqlite_processes;
mod sqlite_rules;
mod sqlite_suite;
mod store_model;
