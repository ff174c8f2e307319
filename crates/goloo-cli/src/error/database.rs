//! What to do about a database that others may have changed.

use std::path::Path;

use goloo_model::database_error::UntrustedDatabase;
use goloo_sys::private::in_shell;

pub(super) fn hint(file: &Path, found: &UntrustedDatabase) -> String {
    let file = in_shell(file);
    match found {
        UntrustedDatabase::Exposed { fix, .. } => {
            format!("{fix}; a database that a group shares is in a folder of mode 2770")
        }
        UntrustedDatabase::SpecialFile { path, .. } => {
            let path = in_shell(path);
            format!("remove it, or set another file in stateBackend; ls -ld {path} shows its owner")
        }
        UntrustedDatabase::ForeignLink { path, .. } => {
            let path = in_shell(path);
            format!("set its target in stateBackend, or remove the link; ls -l {path} shows the target")
        }
        UntrustedDatabase::SuperJournal { path } => {
            format!("remove it; ls -l {} shows its owner", in_shell(path))
        }
        UntrustedDatabase::Schema { table, .. } => format!(
            "sqlite3 {file} \".schema {table}\" shows it; check who has write access, and restore a backup into another file with `goloo state restore FILE`"
        ),
        UntrustedDatabase::TooManyRows { table, .. } => format!(
            "sqlite3 {file} \"SELECT * FROM {table} LIMIT 10\" shows the first; check who has write access, and remove what isn't \
             goloo's, or restore a backup into another file with `goloo state restore FILE`"
        ),
        UntrustedDatabase::Endless { .. } | UntrustedDatabase::OversizedValue { .. } => format!(
            "sqlite3 {file} shows the content; check who has write access, and remove what isn't goloo's"
        ),
    }
}

#[cfg(test)]
mod tests {
    use goloo_model::store::StoreError;

    use super::*;
    use crate::error::CliError;

    #[test]
    fn each_finding_has_a_hint_that_names_the_file_to_look_at() {
        let told = |source| {
            let error = StoreError::Untrusted { action: "read", file: "/srv/goloo.db".into(), source };
            let told = CliError::from(error);
            assert_eq!((told.kind, told.message.as_str()), ("untrusted", "can't read in /srv/goloo.db"));
            (told.causes.join(": "), told.hint)
        };
        let (cause, hint) = told(UntrustedDatabase::TooManyRows { table: "vms", rows: "rows", max: 7 });
        assert_eq!(cause, "its table vms has more than 7 rows");
        assert!(hint.starts_with("sqlite3 /srv/goloo.db \"SELECT * FROM vms LIMIT 10\""), "{hint}");
        let fault = "it has a column with a default".to_owned();
        let (cause, hint) = told(UntrustedDatabase::Schema { table: "vms", fault });
        assert_eq!(cause, "the table vms doesn't have goloo's schema: it has a column with a default");
        assert!(hint.starts_with("sqlite3 /srv/goloo.db \".schema vms\" shows it"), "{hint}");
        let path = "/srv/my vms.db-wal".into();
        let (_, hint) = told(UntrustedDatabase::SuperJournal { path });
        assert_eq!(hint, "remove it; ls -l '/srv/my vms.db-wal' shows its owner");
        let path = "/srv/goloo.db-wal".into();
        let (cause, hint) = told(UntrustedDatabase::SpecialFile { path, kind: "a named pipe" });
        assert_eq!(cause, "/srv/goloo.db-wal is a named pipe, not a regular file");
        assert!(hint.ends_with("ls -ld /srv/goloo.db-wal shows its owner"), "{hint}");
        let (what, fix) = ("/srv can be written by others".to_owned(), "chmod go-w /srv".to_owned());
        let (cause, hint) = told(UntrustedDatabase::Exposed { what, fix });
        assert_eq!(cause, "/srv can be written by others");
        assert_eq!(hint, "chmod go-w /srv; a database that a group shares is in a folder of mode 2770");
    }
}
