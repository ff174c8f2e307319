pub fn fetch(_: &crate::app::App, _: &goloo_core::spec::ResolvedStack) -> Result<Vec<goloo_core::record::UserKeys>, crate::error::CliError> { todo!() }
