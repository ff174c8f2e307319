//! Hints for errors with the keys of a stack's users.

use goloo::keys::KeysError;

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &KeysError) -> (u8, String) {
    let hint = match error {
        KeysError::TooMany { .. } => "list fewer keys in config.json and in the key files",
        KeysError::FilesTooLarge => "list each key file once, or write single keys into ssh_keys",
        KeysError::NoKeyInFile { .. } => "use a file with public keys, one per line, like id_ed25519.pub",
        KeysError::InsecureUrl { .. } => "use an https URL",
        KeysError::InvalidUser { .. } => "write a name as in github.com/NAME",
        KeysError::NoSuchUser { .. } => "check the spelling of github_username",
        KeysError::NoKeys { .. } => "add a key at GitHub, or write one into ssh_keys",
        KeysError::Refused { url, .. } => {
            return (exit::FAILED, format!("check {url}, or write the keys into ssh_keys"));
        }
        KeysError::NoRoots(error) => error.hint(),
        KeysError::Unfetched { .. } => "check the network and try again, or write the keys into ssh_keys",
        _ => "goloo doctor",
    };
    let code = match error.code() {
        "usage" => exit::USAGE,
        "not-found" => exit::NOT_FOUND,
        _ => exit::FAILED,
    };
    (code, hint.to_owned())
}

/// What is wrong with the lines of a file that has no key.
pub(super) fn causes(error: &KeysError) -> Vec<String> {
    let KeysError::NoKeyInFile { path, skipped } = error else { return Vec::new() };
    let path = path.display();
    skipped.iter().map(|(line, error)| format!("{path}:{line}: {error}")).collect()
}

#[cfg(test)]
mod tests {
    use goloo_model::authorized_key::AuthorizedKeyError;

    use super::*;

    #[test]
    fn each_invalid_line_of_a_key_file_is_a_cause() {
        let skipped = vec![(2, AuthorizedKeyError::Private), (3, AuthorizedKeyError::Kind("ssh-dss".into()))];
        let causes = causes(&KeysError::NoKeyInFile { path: "/a/keys.pub".into(), skipped });
        assert!(causes[0].starts_with("/a/keys.pub:2: this is a private key"), "{causes:?}");
        assert_eq!(causes[1], "/a/keys.pub:3: sshd doesn't accept keys of the type ssh-dss");
    }

    #[test]
    fn an_unknown_user_is_not_found() {
        let error = KeysError::NoSuchUser { user: "nobody".to_owned() };
        assert_eq!(explain(&error), (exit::NOT_FOUND, "check the spelling of github_username".to_owned()));
    }
}
