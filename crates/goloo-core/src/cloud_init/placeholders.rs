//! `${SSH_PUBLIC_KEY}` and `${SSH_PUBLIC_KEY_NAME}`: the users' keys, put where the document wants
//! them. All else stays as it is, byte for byte.

use super::problem;
use crate::record::UserKeys;
use crate::spec::Problem;

const START: &str = "${SSH_PUBLIC_KEY";

/// A document with the keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    /// Its text.
    pub text: String,
    /// For each of its lines, the line that it was made from; both count from 1.
    pub origins: Vec<usize>,
}

/// Puts the keys in. All problems are found at once.
pub(super) fn fill(text: &str, users: &[UserKeys]) -> Result<Filled, Vec<Problem>> {
    let mut filled = Filled { text: String::with_capacity(text.len()), origins: Vec::new() };
    let mut problems = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match fill_line(line, users) {
            Ok(line) => {
                filled.origins.extend(line.split_inclusive('\n').map(|_| index + 1));
                filled.text.push_str(&line);
            }
            Err((column, message, hint)) => problems.push(problem(index + 1, column, message, hint)),
        }
    }
    if problems.is_empty() { Ok(filled) } else { Err(problems) }
}

/// Where and what, and what to do.
type Wrong = (usize, String, String);

/// One line, with its end. Each key gives a line of its own where that makes sense: in a list, or
/// where the placeholder stands alone.
fn fill_line(line: &str, users: &[UserKeys]) -> Result<String, Wrong> {
    let Some(begin) = line.find(START) else { return Ok(line.to_owned()) };
    let column = line[..begin].chars().count() + 1;
    let rest = &line[begin..];
    let Some(length) = rest.find('}').map(|end| end + 1) else { return Ok(line.to_owned()) };
    let placeholder = &rest[..length];
    let keys = keys_of(placeholder, users).map_err(|(message, hint)| (column, message, hint))?;
    let (before, after) = (&line[..begin], &rest[length..]);
    let stands_alone = before.trim().is_empty() && after.trim().is_empty();
    let is_item = before.trim_start().starts_with("- ");
    if keys.len() > 1 && !stands_alone && !is_item {
        let message = format!("{placeholder} stands for {} keys here, and only one fits", keys.len());
        return Err((column, message, format!("write it as a list item of its own: - {placeholder}")));
    }
    let mut lines = String::new();
    for (index, key) in keys.iter().enumerate() {
        if index > 0 && !lines.ends_with('\n') {
            lines.push('\n');
        }
        // What stands behind it on the line may hold another one.
        lines.push_str(before);
        lines.push_str(&in_yaml(key));
        lines.push_str(
            &fill_line(after, users)
                .map_err(|(at, message, hint)| (column + length + at - 1, message, hint))?,
        );
    }
    Ok(lines)
}

/// The keys that a placeholder stands for.
fn keys_of<'k>(placeholder: &str, users: &'k [UserKeys]) -> Result<&'k [String], (String, String)> {
    let name = &placeholder[START.len()..placeholder.len() - 1];
    let user = match name.strip_prefix('_') {
        None if name.is_empty() => users.first(),
        None => None,
        // One whose name is just so comes before one whose hyphen is written otherwise.
        Some(name) => users
            .iter()
            .find(|user| user.username.to_uppercase() == name)
            .or_else(|| users.iter().find(|user| user.username.to_uppercase().replace('-', "_") == name)),
    };
    let Some(user) = user else {
        return Err((format!("{placeholder} stands for no user's keys"), known(users)));
    };
    if user.keys.is_empty() {
        let message = format!("{placeholder}: the user \"{}\" has no keys", user.username);
        return Err((
            message,
            "give the user a github_username, ssh_keys or ssh_key_files in config.json".to_owned(),
        ));
    }
    Ok(&user.keys)
}

/// A key's comment is free text. One that YAML could take for something else is left out: the key is
/// the same without it.
fn in_yaml(key: &str) -> std::borrow::Cow<'_, str> {
    let mut words = key.splitn(3, ' ');
    let (Some(kind), Some(body), Some(comment)) = (words.next(), words.next(), words.next()) else {
        return key.into();
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " @._+-/()".contains(c);
    if comment.chars().all(is_plain) { key.into() } else { format!("{kind} {body}").into() }
}

fn known(users: &[UserKeys]) -> String {
    if users.is_empty() {
        return "add a user with keys to vm.users in config.json, or give -u GITHUB-USER".to_owned();
    }
    let named =
        users.iter().map(|user| format!("{START}_{}}}", user.username.to_uppercase().replace('-', "_")));
    let all: Vec<_> = std::iter::once(format!("{START}}}")).chain(named).collect();
    format!("the known ones are {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str, users: &[UserKeys]) -> Result<String, Vec<Problem>> {
        super::fill(text, users).map(|filled| filled.text)
    }

    fn users() -> Vec<UserKeys> {
        let user = |name: &str, keys: &[&str]| UserKeys {
            username: name.to_owned(),
            github_username: None,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        vec![user("ann", &["ssh-ed25519 A ann", "ssh-ed25519 B ann"]), user("deploy-bot", &["ssh-ed25519 C"])]
    }

    #[test]
    fn a_list_item_becomes_one_item_per_key_with_the_text_around_it() {
        let text = "keys:\n  - \"${SSH_PUBLIC_KEY}\" # hers\nrest\n";
        let expected = "keys:\n  - \"ssh-ed25519 A ann\" # hers\n  - \"ssh-ed25519 B ann\" # hers\nrest\n";
        assert_eq!(fill(text, &users()).unwrap(), expected);
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(
            fill("- ${SSH_PUBLIC_KEY}", &users()).unwrap(),
            "- ssh-ed25519 A ann\n- ssh-ed25519 B ann"
        );
        assert_eq!(
            fill("- ${SSH_PUBLIC_KEY}\r\n", &users()).unwrap(),
            "- ssh-ed25519 A ann\r\n- ssh-ed25519 B ann\r\n"
        );
    }

    #[test]
    fn a_user_s_hyphen_may_be_written_either_way() {
        for name in ["DEPLOY_BOT", "DEPLOY-BOT"] {
            let text = format!("key: ${{SSH_PUBLIC_KEY_{name}}}\n");
            assert_eq!(fill(&text, &users()).unwrap(), "key: ssh-ed25519 C\n");
        }
    }

    #[test]
    fn two_users_that_differ_in_a_hyphen_alone_are_told_apart() {
        let user = |name: &str, key: &str| UserKeys {
            username: name.to_owned(),
            github_username: None,
            keys: vec![key.to_owned()],
        };
        let both = [user("a-b", "k 1"), user("a_b", "k 2")];
        assert_eq!(fill("${SSH_PUBLIC_KEY_A_B}, ${SSH_PUBLIC_KEY_A-B}", &both).unwrap(), "k 2, k 1");
    }

    #[test]
    fn a_comment_that_yaml_could_misread_is_left_out() {
        let mut odd = users();
        odd[0].keys = vec!["ssh-ed25519 A ann: her #1".to_owned(), "ssh-ed25519 B her laptop".to_owned()];
        assert_eq!(fill("- ${SSH_PUBLIC_KEY}", &odd).unwrap(), "- ssh-ed25519 A\n- ssh-ed25519 B her laptop");
    }

    #[test]
    fn lines_know_where_they_came_from() {
        assert_eq!(super::fill("a\n- ${SSH_PUBLIC_KEY}\nb", &users()).unwrap().origins, [1, 2, 2, 3]);
    }

    #[test]
    fn an_option_s_dashes_make_no_list_item() {
        assert!(fill("  --key '${SSH_PUBLIC_KEY}'", &users()).is_err());
    }

    #[test]
    fn other_variables_are_the_shell_s() {
        let text = "a ${HOME} $SSH_PUBLIC_KEY ${SSH_PUBLIC_KE} ${}\n";
        assert_eq!(fill(text, &users()).unwrap(), text);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_place() {
        let text = "- ${SSH_PUBLIC_KEY_EVE}\nok\nx: [${SSH_PUBLIC_KEY}]\n";
        let problems = fill(text, &users()).unwrap_err();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "cloud-init.yaml:1:3: ${SSH_PUBLIC_KEY_EVE} stands for no user's keys (the known ones are ${SSH_PUBLIC_KEY}, ${SSH_PUBLIC_KEY_ANN}, ${SSH_PUBLIC_KEY_DEPLOY_BOT})",
                "cloud-init.yaml:3:5: ${SSH_PUBLIC_KEY} stands for 2 keys here, and only one fits (write it as a list item of its own: - ${SSH_PUBLIC_KEY})",
            ]
        );
    }

    proptest! {
        #[test]
        fn a_text_without_placeholders_is_unchanged(text in "(\\PC|[\r\n\t${}])*") {
            prop_assume!(!text.contains(START));
            prop_assert_eq!(fill(&text, &users()).unwrap(), text);
        }
    }
}
