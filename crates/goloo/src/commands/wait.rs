//! `goloo wait`

use serde_json::json;

use super::WaitArgs;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

pub fn run(app: &App, args: &WaitArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let provider = app.provider_of(&app.record(&name)?)?;
    // Fails at once, with what to do, when the machine is off.
    super::reach::expect_up(app, &name)?;
    let left = format!("nothing has changed; goloo wait {name} goes on waiting");
    let (record, verdict) =
        app.operate(&*provider, args.timeout, &left, async |engine| engine.wait(&name).await)??;
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(&record)}));
    }
    if !verdict.result.is_good() {
        super::create::explain(app, &record, &verdict);
        return Ok(exit::DEGRADED);
    }
    if !app.ui.json() {
        super::create::warn_of(app, &verdict);
        app.ui.line(&format!("{name} is ready"));
    }
    Ok(exit::DONE)
}
