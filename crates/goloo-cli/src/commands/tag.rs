//! `goloo tag`

use goloo_model::tags;

use super::listing;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// Tags to add; without any, the tags are shown
    #[arg(value_name = "K=V", value_parser = tags::parse)]
    add: Vec<(String, String)>,
    /// Remove the tag with this key
    #[arg(long = "remove", value_name = "K")]
    remove: Vec<String>,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let record = if args.add.is_empty() && args.remove.is_empty() {
        app.session.record(&name)?
    } else {
        app.session.change_tags(&name, &args.add, &args.remove)?
    };
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &record });
    } else if record.tags.is_empty() {
        app.ui.say(&format!("{name} has no tags"));
    } else {
        app.ui.line(&listing::tags(record.tags.iter()));
    }
    Ok(exit::DONE)
}
