//! Tables and texts that several commands print about VMs.

use goloo::migrate::ImportFailure;
use goloo_model::query::Listed;
use goloo_model::store::{Archived, Broken};
use goloo_model::time::Timestamp;

use crate::app::App;
use crate::output::{Column, Table, Ui, age, first};

const ARCHIVE_COLUMNS: [Column; 6] = [
    Column::name("ARCHIVE ID"),
    Column::whole("PROVIDER", 4),
    Column::text("STACK", 3),
    Column::text("BY", 2),
    Column::text("TAGS", 1),
    Column::whole("DELETED", 5).figure(),
];

/// The table of the archive.
pub fn print_archive(app: &App, archive: &[Archived]) {
    if archive.is_empty() {
        app.ui.say("the archive is empty");
        return;
    }
    let now = Timestamp::now();
    let wide = app.ui.verbose() > 0;
    let shown = [true, true, true, wide || several(archive.iter().map(|entry| &entry.record)), wide, true];
    let mut table = Table::of(&ARCHIVE_COLUMNS, &shown);
    for entry in archive {
        let record = &entry.record;
        table.row_of(
            &[
                entry.id.to_string(),
                record.provider.to_string(),
                record.stack.to_string(),
                by(record),
                tags(record.tags.iter()),
                format!("{} ago", age(now.since(entry.deleted_at))),
            ],
            &shown,
        );
    }
    app.ui.table(&table);
}

/// Whether the VMs have different creators or hosts.
pub fn several<'v, T: Listed + 'v>(mut vms: impl Iterator<Item = &'v T>) -> bool {
    let Some(first) = vms.next() else { return false };
    vms.any(|vm| (vm.user(), vm.host()) != (first.user(), first.host()))
}

/// The creator of a VM.
pub fn by(vm: &impl Listed) -> String {
    format!("{}@{}", vm.user(), vm.host())
}

/// Tags in one line.
pub fn tags<K: AsRef<str>, V: AsRef<str>>(tags: impl Iterator<Item = (K, V)>) -> String {
    tags.map(|(key, value)| format!("{}={}", key.as_ref(), value.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Warns about broken records; if there are many, only about the first ones.
pub fn warn_of_each<'b>(
    ui: &Ui,
    broken: impl IntoIterator<Item = &'b Broken>,
    warning: impl Fn(&Broken) -> String,
) {
    first(broken, warning).iter().for_each(|text| ui.warning(text));
}

/// Warns of VMs of v0 configs that can't be imported: the first one, and the number of the others.
pub fn warn_of_failures(app: &App, failures: &[ImportFailure]) {
    let Some(failure) = failures.first() else { return };
    let more = if failures.len() > 1 { format!(", and {} more", failures.len() - 1) } else { String::new() };
    app.ui.warning(&format!("{}: {failure}{more} (run `goloo migrate` to see all)", failure.location()));
}
