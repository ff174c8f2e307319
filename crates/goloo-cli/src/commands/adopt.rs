//! `goloo adopt`

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use goloo_model::access::LoginName;
use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;

use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{complete, exit, json, providers};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM's name
    name: String,
    /// The provider that has the machine
    #[arg(long, value_name = "P", value_parser = providers::parse, add = ArgValueCandidates::new(complete::providers))]
    provider: ProviderId,
    /// The machine's id at its provider, as `goloo refresh` shows it; by default the machine called NAME
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The login user; only for a machine that goloo created and whose host key is still known here
    #[arg(long, value_name = "USER")]
    user: Option<LoginName>,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = VmName::parse(&args.name)?;
    let left = format!("a record may have been created; check with `goloo status {name}`");
    let record = app.act(Duration::ZERO, &left, |run| {
        app.session.adopt(&name, args.provider, args.id.as_deref(), args.user.as_ref(), run)
    })?;
    if args.user.is_some() && record.ssh.is_none() {
        app.ui.warning(&format!("the host key of {name} is not known here, so goloo cannot log in over SSH"));
    }
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &record });
    } else {
        app.ui.line(&format!("imported {name}; run `goloo status {name}` for details"));
    }
    Ok(exit::DONE)
}
