//! `goloo wait`

use super::created;
use crate::app::App;
use crate::error::CliError;
use crate::options::WaitArgs;
use crate::{exit, json};

pub fn run(app: &App, args: &WaitArgs) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    // Fails immediately, with a hint, when the machine is off.
    app.session.expect_reachable(&name)?;
    let left = format!("nothing has changed; run `goloo wait {name}` to continue waiting");
    let (record, verdict) = app.act(args.timeout, &left, |run| app.session.wait(&name, run))?;
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &record });
    }
    if !verdict.result.is_good() {
        created::explain(app, &record, &verdict, created::WayOn::Delete);
        return Ok(exit::DEGRADED);
    }
    if !app.ui.json() {
        created::warn_of(app, &verdict);
        app.ui.line(&format!("{name} is ready"));
    }
    Ok(exit::DONE)
}
