//! `goloo state locks`

use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::Table;

pub fn run(app: &App) -> Result<u8, CliError> {
    let locks = app.wait_for(app.store.locks())?;
    if app.ui.json() {
        let locks = locks
            .iter()
            .map(|held| json!({"name": held.name, "owner": held.owner, "leaseEnd": held.lease_end}));
        app.ui.result(json!({"locks": locks.collect::<Vec<_>>()}));
        return Ok(exit::DONE);
    }
    if locks.is_empty() {
        app.ui.say("nobody holds a lock");
        return Ok(exit::DONE);
    }
    let mut table = Table::new(&["NAME", "USER", "HOST", "PID", "UNTIL"]);
    for held in &locks {
        let owner = |value: fn(&goloo_core::record::Owner) -> String| held.owner.as_ref().map(value);
        table.row([
            held.name.to_string(),
            owner(|owner| owner.user.to_string()).unwrap_or_default(),
            owner(|owner| owner.host.to_string()).unwrap_or_default(),
            owner(|owner| owner.pid.to_string()).unwrap_or_default(),
            held.lease_end.map_or_else(|| "its process ends".to_owned(), |end| end.to_string()),
        ]);
    }
    app.ui.table(&table);
    Ok(exit::DONE)
}
