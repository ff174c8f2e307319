//! Tests of user-data, in one program that is linked once.
#![allow(clippy::unwrap_used, missing_docs)]

mod bake;
mod bounds;
mod cloud_init_differential;
mod common;
mod document_problems;
mod merge;
mod mount_types;
mod schema_differential;
mod yaml_differential;
