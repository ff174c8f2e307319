//! `goloo config list`

use goloo::actions::StackState;
use goloo::registry::Registry;

use crate::app::App;
use crate::commands::remembered;
use crate::error::CliError;
use crate::output::{Column, Table, state_color};
use crate::{exit, json};

/// Shows the stacks in all places, and those that only the registry has.
pub fn run(app: &App) -> Result<u8, CliError> {
    let known = remembered::stacks(app, &Registry::new(&app.session.paths.state));
    let rows = app.session.stacks(known);
    if app.ui.json() {
        app.ui.result(&json::StackList::from(&*rows));
        return Ok(exit::DONE);
    }
    if rows.is_empty() {
        app.ui.say("no stacks in ./stacks or the library; run `goloo init` to create one");
        return Ok(exit::DONE);
    }
    let mut table = Table::new(&[
        Column::name("STACK"),
        Column::whole("LOCATION", 1),
        Column::text("STATE", 3).styled(state_color),
        Column::text("FOLDER", 2),
    ]);
    for row in &rows {
        table.row([
            row.name.clone(),
            row.place_word().to_owned(),
            state_text(&row.state),
            row.folder.display().to_string(),
        ]);
    }
    app.ui.table(&table);
    for row in &rows {
        if let (StackState::Gone, Some(now)) = (&row.state, &row.seems_at) {
            let (name, now) = (&row.name, now.display());
            app.ui.say(&format!(
                "{name} seems to have moved to {now}: run `goloo config relocate {name} {now}`"
            ));
        }
    }
    Ok(exit::DONE)
}

fn state_text(state: &StackState) -> String {
    match state {
        StackState::Elsewhere(folder) => format!("last created from {}", folder.display()),
        other => other.as_str().to_owned(),
    }
}
