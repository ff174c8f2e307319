//! The keys that `encryption` names.

use std::path::Path;

use goloo_model::spec::InvalidValue;
use goloo_store::Seal;
use goloo_store::seal::{Identity, Recipient};
use goloo_sys::{private, read};

use super::values::Encryption;
use crate::error::{Error, SettingsError};
use crate::paths::in_home;

impl Encryption {
    /// Recipients that are no keys.
    pub(super) fn invalid_values(&self) -> Vec<InvalidValue> {
        let misfit = |(index, recipient): (usize, &String)| {
            let error = recipient.parse::<Recipient>().err()?;
            Some(InvalidValue {
                pointer: format!("/encryption/recipients/{index}"),
                message: format!("\"{recipient}\" is not an age public key: {error}"),
                hint: "run `age-keygen -y KEYFILE` to print it; it begins with age1".to_owned(),
            })
        };
        self.recipients.iter().enumerate().filter_map(misfit).collect()
    }

    pub(super) fn seal(&self, home: &Path) -> Result<Seal, Error> {
        let recipients = self.recipients.iter().filter_map(|recipient| recipient.parse().ok());
        let identities = match &self.identity_file {
            Some(path) => identities(&in_home(path, home))?,
            None => Vec::new(),
        };
        Ok(Seal::age(recipients.collect(), identities))
    }
}

/// The secret keys in a file: one per line, with comments between them.
fn identities(path: &Path) -> Result<Vec<Identity>, Error> {
    let no_identity =
        |reason: &str| SettingsError::NoIdentity { path: path.to_owned(), reason: reason.to_owned() };
    private::check_readable(path)?;
    let text = read::text(path, read::FILE_MAX)
        .map_err(|error| Error::cannot("read the file of encryption.identityFile,", path, error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<Identity>, &str> = lines.map(str::parse).collect();
    match keys {
        Ok(keys) if keys.is_empty() => Err(no_identity("it is empty").into()),
        Ok(keys) => Ok(keys),
        Err(why) => Err(no_identity(why).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::values::tests::{read, said_of};
    use super::*;

    /// A publicly known key.
    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

    #[test]
    fn an_invalid_recipient_is_reported_with_its_position() {
        let key = Identity::generate().to_public();
        let said = said_of(&format!(r#"{{"encryption": {{"recipients": ["{key}", "age1x"]}}}}"#));
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("\"age1x\" is not an age public key"), "{said:?}");
    }

    #[test]
    fn encrypted_data_is_decrypted_with_the_configured_identity() {
        let home = tempfile::tempdir().unwrap();
        let settings = |key: &Identity| {
            let public = key.to_public();
            read(&format!(r#"{{"encryption": {{"recipients": ["{public}"], "identityFile": "~/key"}}}}"#))
                .unwrap()
        };
        let settings = settings(&SECRET.parse().unwrap());
        let refused = settings.seal(home.path()).unwrap_err();
        assert!(refused.to_string().contains("identityFile"), "{refused}");
        std::fs::write(home.path().join("key"), "# only a comment\n").unwrap();
        let empty = settings.seal(home.path()).unwrap_err();
        assert!(matches!(empty, Error::Settings(SettingsError::NoIdentity { .. })), "{empty:?}");
        std::fs::write(home.path().join("key"), format!("# mine\n{SECRET}\n")).unwrap();
        let seal = settings.seal(home.path()).unwrap();
        let sealed = seal.seal(b"{}".to_vec()).unwrap();
        assert_ne!(sealed, b"{}");
        assert_eq!(*seal.open(&sealed).unwrap(), *b"{}");
    }
}
