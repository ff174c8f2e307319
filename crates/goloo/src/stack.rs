use goloo_core::spec::*; use goloo_core::store::Snapshot; use std::path::*; use crate::{app::App, error::CliError, output::Ui};
pub struct Lookup<'a> { pub given: &'a str, pub folder: Option<&'a Path>, pub last: Option<PathBuf>, pub config_dir: &'a Path }
impl Lookup<'_> { pub fn find(&self, _: &Ui) -> Result<Found, CliError> { todo!() } }
pub struct Found;
impl Found { pub fn resolve(&self, _: &App, _: &str, _: Option<&str>) -> Result<ResolvedStack, CliError> { todo!() } pub fn check(&self, _: &App, _: &str) -> Result<(), CliError> { todo!() } pub fn snapshot(&self) -> Snapshot { todo!() } pub fn from_snapshot(_: Snapshot, _: &str, _: PathBuf) -> Self { todo!() } pub fn folder(&self) -> &Path { todo!() } }
pub fn all(_: &Path) -> Vec<(String, PathBuf)> { todo!() }
