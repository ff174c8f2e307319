//! `goloo image` for baked images that providers keep.

use goloo::actions::ListedKeptImage;
use goloo_model::provider::KeptImage;
use goloo_model::provider_id::ProviderId;
use goloo_model::time::Timestamp;

use super::ask::Question;
use super::baked_stacks;
use crate::app::App;
use crate::error::CliError;
use crate::json;
use crate::output::{Column, Table, age, bytes};

pub(super) fn list(app: &App, provider: ProviderId) -> Result<(), CliError> {
    let images = app.session.kept_images(provider)?;
    let stacks = images.iter().map(|listed| listed.image.stack.as_str()).collect();
    let keys = baked_stacks::keys(app, provider, stacks);
    let changed = |image: &KeptImage| Some(keys.get(&image.stack)? != image.key.as_ref()?);
    if app.ui.json() {
        app.ui.result(&json::KeptImageList::of(&images, changed));
        return Ok(());
    }
    if images.is_empty() {
        app.ui.say(&format!("{provider} keeps no baked images; run `goloo bake` to make one"));
        return Ok(());
    }
    let mut table = Table::new(&[
        Column::name("IMAGE"),
        Column::whole("ID", 4),
        Column::whole("STATE", 3),
        Column::whole("AGE", 5).figure(),
        Column::whole("LAST USE", 2).figure(),
        Column::whole("SIZE", 4).figure(),
        Column::whole("SNAPSHOTS", 1),
        Column::whole("REGION", 2),
        Column::whole("IN USE", 5),
        Column::whole("STACK CHANGED", 3),
    ]);
    let now = Timestamp::now();
    let ago = |time: Option<Timestamp>| time.map(|time| age(now.since(time))).unwrap_or_default();
    for listed in &images {
        let image = &listed.image;
        table.row([
            listed.name(),
            image.id.clone(),
            image.state.as_str().to_owned(),
            ago(image.created_at),
            ago(image.last_used),
            bytes(image.size),
            image.snapshots.join(", "),
            image.region.clone().unwrap_or_default(),
            if listed.in_use { "yes" } else { "no" }.to_owned(),
            baked_stacks::word(changed(image)),
        ]);
    }
    app.ui.table(&table);
    Ok(())
}

pub(super) fn remove(app: &App, provider: ProviderId, name: &str) -> Result<(), CliError> {
    app.session.remove_kept_images(provider, name)?.iter().for_each(|image| removed(app, image));
    Ok(())
}

pub(super) fn prune(app: &App, provider: ProviderId, yes: bool) -> Result<(), CliError> {
    let mut unused = app.session.kept_images(provider)?;
    unused.retain(ListedKeptImage::is_unused);
    if unused.is_empty() {
        app.ui.say("there are no baked images that no VM uses");
        return Ok(());
    }
    if !yes {
        let question = Question {
            asks: "this command asks for confirmation",
            lost: unused.iter().map(|listed| format!("  {} {}", listed.image.id, listed.name())).collect(),
            question: "Remove these images permanently?",
            words: None,
            declined: "nothing was removed",
            again: "run it again with --yes".to_owned(),
        };
        question.ask_showing(app)?;
    }
    let unused = unused.into_iter().map(|listed| listed.image).collect();
    app.session.prune_kept_images(provider, unused)?.iter().for_each(|image| removed(app, image));
    Ok(())
}

fn removed(app: &App, image: &KeptImage) {
    app.ui.line(&format!("removed {} of {} ({})", image.id, image.stack, bytes(image.size)));
}
