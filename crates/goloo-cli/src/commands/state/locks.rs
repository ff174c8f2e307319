//! `goloo state locks`

use crate::app::App;
use crate::error::CliError;
use crate::output::{Column, Table};
use crate::{exit, json};

pub fn run(app: &App) -> Result<u8, CliError> {
    let locks = app.session.locks()?;
    if app.ui.json() {
        app.ui.result(&json::LockList::from(&*locks));
        return Ok(exit::DONE);
    }
    if locks.is_empty() {
        app.ui.say("no VM is locked");
        return Ok(exit::DONE);
    }
    let mut table = Table::new(&[
        Column::name("NAME"),
        Column::text("USER", 3),
        Column::text("HOST", 2),
        Column::whole("PID", 1).figure(),
        Column::text("UNTIL", 4),
    ]);
    for held in &locks {
        let owner = |value: fn(&goloo_model::record::Owner) -> String| held.owner.as_ref().map(value);
        table.row([
            held.name.to_string(),
            owner(|owner| owner.user.to_string()).unwrap_or_default(),
            owner(|owner| owner.host.to_string()).unwrap_or_default(),
            owner(|owner| owner.pid.to_string()).unwrap_or_default(),
            held.lease_end.map_or_else(|| "its process exits".to_owned(), |end| end.to_string()),
        ]);
    }
    app.ui.table(&table);
    Ok(exit::DONE)
}
