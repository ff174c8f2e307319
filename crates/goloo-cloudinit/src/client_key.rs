//! Gives the user-data of a machine that comes from another computer this computer's client key, so that goloo can log in
//! after the next boot. Only goloo's own part is changed; the user's document stays as it is.

use goloo_model::authorized_key::AuthorizedKey;

use crate::identity::{ACCOUNT, KEY_FOLDER};

/// User-data that isn't from goloo, or from a version whose part is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its user-data has no client key of goloo's")]
pub struct NoClientKey;

/// Where keys are kept that an apply wrote, which come after those of the user-data.
const LATER: &str = "/opt/goloo/later/users";

/// Whether [`with_client_key`] can change the key.
pub fn has_client_key(user_data: &[u8]) -> bool {
    Parts::of(user_data).is_ok()
}

/// The same user-data with this client key in place of the one that it has.
///
/// # Errors
/// [`NoClientKey`].
pub fn with_client_key(user_data: &[u8], key: &str) -> Result<Vec<u8>, NoClientKey> {
    let Parts { before, boothook, after, key: old } = Parts::of(user_data)?;
    let (former, new) = (parse(old)?, parse(key)?);
    if former == new {
        return Ok(user_data.to_vec());
    }
    let (script, end) = boothook.rsplit_once(END).ok_or(NoClientKey)?;
    let lines = script.split('\n').map(|line| if line == old { key } else { line });
    let script = lines.collect::<Vec<_>>().join("\n");
    let AuthorizedKey { kind, body, .. } = former;
    let later = format!("[ ! -f {LATER} ] || sed -i 's|^{kind} {body}.*|{} {}|' {LATER}", new.kind, new.body);
    Ok(format!("{before}{script}\n{later}{END}{end}{after}").into_bytes())
}

/// The end of the script.
const END: &str = "\nexit 0\n";

fn parse(key: &str) -> Result<AuthorizedKey, NoClientKey> {
    AuthorizedKey::parse(key).map_err(|_| NoClientKey)
}

/// goloo's part of the user-data, and what is around it.
struct Parts<'t> {
    before: &'t str,
    boothook: &'t str,
    after: &'t str,
    /// The line of the client key in the boothook.
    key: &'t str,
}

impl<'t> Parts<'t> {
    /// Of user-data as goloo composes it: the boothook is the first part, as plain text.
    fn of(user_data: &'t [u8]) -> Result<Self, NoClientKey> {
        let text = std::str::from_utf8(user_data).map_err(|_| NoClientKey)?;
        let parts = || {
            let (boundary, _) =
                text.strip_prefix("Content-Type: multipart/mixed; boundary=\"")?.split_once("\"\n")?;
            let delimiter = format!("\n--{boundary}\n");
            let begin = text.find(&delimiter)? + delimiter.len();
            let length = text[begin..].find(&delimiter)?;
            let (before, rest) = text.split_at(begin);
            let (boothook, after) = rest.split_at(length);
            let (_, from) = boothook.split_once(&format!("put 0644 {KEY_FOLDER}/{ACCOUNT} <<'GOLOO'\n"))?;
            let (key, _) = from.split_once("\nGOLOO\n")?;
            Some(Self { before, boothook, after, key })
        };
        parts().filter(|parts| parse(parts.key).is_ok()).ok_or(NoClientKey)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::process::Command;

    use super::*;

    const OLD: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKmBfjh7yQxZ/7rv4mXMM6Df1DV2JI/XOGlXJJs8LaXb goloo";
    const NEW: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUY2aXJl9o96rezpt+BYm28+bplyy3Dt0eRKetbJ2t2 goloo";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOY2fVpgjb1Pi244MNru3M7+KrzvJCjsxl3EHBcx8vCV goloo";

    /// As goloo composes it. The user's document has the key, too.
    fn user_data(key: &str) -> String {
        format!(
            "Content-Type: multipart/mixed; boundary=\"goloo-00000000\"\nMIME-Version: 1.0\n\n--goloo-00000000\n\
             Content-Type: text/cloud-boothook\n\n#cloud-boothook\n#!/bin/sh\n\
             put 0644 /etc/ssh/goloo_keys/goloo <<'GOLOO'\n{key}\nGOLOO\n\
             put 0644 /etc/ssh/goloo_keys/ann <<'GOLOO'\nssh-rsa AAAA ann\n{key}\nGOLOO\nexit 0\n\
             \n--goloo-00000000\nContent-Type: text/cloud-config\n\n#cloud-config\nkey: |\n{key}\nexit 0\n\n--goloo-00000000--\n"
        )
    }

    fn replaced(user_data: &str, key: &str) -> String {
        String::from_utf8(with_client_key(user_data.as_bytes(), key).unwrap()).unwrap()
    }

    #[test]
    fn only_goloos_part_gets_the_other_key() {
        let text = replaced(&user_data(OLD), NEW);
        let (own, document) = text.split_once("Content-Type: text/cloud-config").unwrap();
        assert!(user_data(OLD).ends_with(document));
        assert_eq!((own.matches(NEW).count(), own.matches(OLD).count()), (2, 0));
        assert_eq!(replaced(&user_data(OLD), OLD), user_data(OLD));
        assert!(has_client_key(text.as_bytes()));
    }

    /// The machine may not have run in between.
    #[test]
    fn keys_that_an_apply_wrote_follow_after_one_import_or_two() {
        let once = replaced(&user_data(OLD), NEW);
        for (text, expected) in [(replaced(&once, OTHER), OTHER), (once, NEW)] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("users");
            fs::write(&file, format!("user ann <<'GOLOO'\nssh-rsa AAAA ann\n{OLD}\nGOLOO\n")).unwrap();
            let lines = text.lines().filter(|line| line.contains(LATER)).collect::<Vec<_>>().join("\n");
            let script = lines.replace(LATER, file.to_str().unwrap());
            assert!(Command::new("/bin/sh").args(["-ec", &script]).status().unwrap().success(), "{script}");
            let kept = expected.trim_end_matches(" goloo");
            let after = format!("user ann <<'GOLOO'\nssh-rsa AAAA ann\n{kept}\nGOLOO\n");
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
        }
    }

    #[test]
    fn user_data_of_somebody_else_is_refused() {
        let good = user_data(OLD);
        for text in [
            String::new(),
            "#cloud-config\n".to_owned(),
            good.replace("goloo_keys/goloo ", "goloo_keys/other "),
            good.replace(OLD, "'; rm -rf /; '"),
            good.replacen("\n--goloo-00000000\n", "", 1),
        ] {
            assert_eq!(with_client_key(text.as_bytes(), NEW), Err(NoClientKey), "{text}");
            assert!(!has_client_key(text.as_bytes()));
        }
        assert_eq!(with_client_key(b"\xff", NEW), Err(NoClientKey));
    }
}
