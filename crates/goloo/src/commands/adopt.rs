//! `goloo adopt`

use std::time::Duration;

use goloo_core::access::LoginName;
use goloo_core::engine::AdoptRequest;
use goloo_core::guest;
use goloo_core::name::{VmId, VmName};
use goloo_core::record::{Extra, ProviderKind, SshAccess};
use serde_json::json;

use super::create::provider_kind;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the VM is to be called
    name: String,
    /// Who has the machine
    #[arg(long, value_name = "P", value_parser = provider_kind)]
    provider: ProviderKind,
    /// The machine's id at its provider, as `goloo refresh` shows it; without it, the one called NAME
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Whom to log in as, where goloo made the machine and its host key is still known here
    #[arg(long, value_name = "USER")]
    user: Option<LoginName>,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = VmName::parse(&args.name)?;
    let provider = app.provider(args.provider)?;
    let request = AdoptRequest {
        name: name.clone(),
        id: args.id.clone(),
        created_by: app.creator()?,
        access: &|id| access(app, id, args.user.as_ref()?),
    };
    let left = format!("a record may have been made: goloo status {name}");
    let adopt = app.operate(&*provider, Duration::ZERO, &left, async |engine| engine.adopt(&request).await);
    let record = adopt??;
    if args.user.is_some() && record.ssh.is_none() {
        app.ui.warning(&format!("the host key of {name} isn't known here, so goloo doesn't log in by SSH"));
    }
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(&record)}));
    } else {
        app.ui.line(&format!("{name} has a record now; goloo status {name}"));
    }
    Ok(exit::DONE)
}

/// The way into a machine that goloo made: its key is in there, and its host key was pinned.
fn access(app: &App, id: &VmId, user: &LoginName) -> Option<SshAccess> {
    let host_key = app.keys.pinned(&guest::alias(id))?;
    Some(SshAccess { user: user.clone(), account: None, login_problem: None, host_key, extra: Extra::new() })
}
