//! `${SSH_PUBLIC_KEY}` and `${SSH_PUBLIC_KEY_NAME}`: the users' keys, put where the document wants
//! them. All else stays as it is, byte for byte.

use super::problem;
use crate::authorized_key::AuthorizedKey;
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

/// `${SSH_PUBLIC_KEY}`, `${SSH_PUBLIC_KEY_NAME}`, or one of them behind another `$`, which keeps it as it is.
struct Placeholder {
    /// Where it begins, with the `$` that keeps it.
    begin: usize,
    end: usize,
    is_kept: bool,
}

impl Placeholder {
    /// The first one in a text.
    fn first(text: &str) -> Option<Self> {
        text.match_indices(START).find_map(|(begin, _)| {
            let name = &text[begin + START.len()..];
            let length = name.find('}')?;
            let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            let name = &name[..length];
            // All else, as ${SSH_PUBLIC_KEYS} and ${SSH_PUBLIC_KEY:-none}, is the shell's.
            let is_one = name.is_empty()
                || name.strip_prefix('_').is_some_and(|name| !name.is_empty() && is_name(name));
            let is_kept = text[..begin].ends_with('$');
            let end = begin + START.len() + length + 1;
            is_one.then_some(Self { begin: begin - usize::from(is_kept), end, is_kept })
        })
    }
}

/// One line, with its end.
fn fill_line(line: &str, users: &[UserKeys]) -> Result<String, Wrong> {
    fill_from(line, 0, comment_start(line), users)
}

/// A line from a byte on. Each key gives a line of its own where that makes sense: in a list, or
/// where the placeholder stands alone.
fn fill_from(line: &str, from: usize, comment: usize, users: &[UserKeys]) -> Result<String, Wrong> {
    let rest = &line[from..];
    let Some(found) = Placeholder::first(rest) else { return Ok(rest.to_owned()) };
    let (before, after) = (&rest[..found.begin], from + found.end);
    let placeholder = &rest[found.begin..found.end];
    let column = line[..from + found.begin].chars().count() + 1;
    let followed_by = || fill_from(line, after, comment, users);
    if found.is_kept {
        return Ok(format!("{before}{}{}", &placeholder[1..], followed_by()?));
    }
    let keys = match keys_of(placeholder, users) {
        Ok(keys) => keys,
        // What a comment speaks of needn't be there.
        Err(_) if from + found.begin >= comment => {
            return Ok(format!("{before}{placeholder}{}", followed_by()?));
        }
        Err((message, hint)) => return Err((column, message, hint)),
    };
    let stands_alone = before.trim().is_empty() && line[after..].trim().is_empty();
    let is_item = before.trim_start().starts_with("- ");
    if keys.len() > 1 && !stands_alone && !is_item {
        if from + found.begin >= comment {
            return Ok(format!("{before}{placeholder}{}", followed_by()?));
        }
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
        lines.push_str(&in_yaml(key, before, line[after..].trim()));
        lines.push_str(&followed_by()?);
    }
    Ok(lines)
}

/// Where a line's comment begins, in YAML as in a shell: at a `#` behind a blank and outside of quotes.
fn comment_start(line: &str) -> usize {
    let mut quote = None;
    let mut is_behind_blank = true;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') if is_behind_blank => return at,
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
        is_behind_blank = character.is_whitespace();
    }
    line.len()
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
        let hint = format!("{}; to keep a variable of your own write ${placeholder}", known(users));
        return Err((format!("{placeholder} stands for no user's keys"), hint));
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

/// A key as it stands between these two. Its comment is free text, and left out where YAML could take it for
/// something else: the key is the same without it. Options in front of a key have quotes of their own, and no key
/// may lose them: they restrict it.
fn in_yaml(key: &str, before: &str, after: &str) -> String {
    let Ok(parsed) = AuthorizedKey::parse(key) else { return key.to_owned() };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " @._+-/()".contains(c);
    let comment = parsed.comment.filter(|comment| comment.chars().all(is_plain));
    let key = AuthorizedKey { comment, ..parsed }.to_string();
    if !key.contains(['"', '\'', '\\', '#', ':']) {
        return key;
    }
    let escaped = || key.replace('\\', "\\\\").replace('"', "\\\"");
    let is_whole_value =
        before.trim_end().ends_with(['-', ':']) && (after.is_empty() || after.starts_with('#'));
    match open_quote(before) {
        Some('"') => escaped(),
        Some(_) => key.replace('\'', "\'\'"),
        None if is_whole_value => format!("\"{}\"", escaped()),
        None => key,
    }
}

/// The quote in which a line's end stands.
fn open_quote(line: &str) -> Option<char> {
    line.chars().fold(None, |quote, character| match (quote, character) {
        (None, '"' | '\'') => Some(character),
        (Some(open), _) if open == character => None,
        _ => quote,
    })
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

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE";

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
        odd[0].keys = vec![format!("{ED25519} ann: her #1"), format!("{ED25519} her laptop")];
        let expected = format!("- {ED25519}\n- {ED25519} her laptop");
        assert_eq!(fill("- ${SSH_PUBLIC_KEY}", &odd).unwrap(), expected);
    }

    #[test]
    fn options_in_front_of_a_key_stay_whatever_is_around_it() {
        let mut odd = users();
        odd[0].keys = vec![format!("from=\"10.0.0.0/8\",no-pty {ED25519} ann: #1")];
        let quoted = format!("\"from=\\\"10.0.0.0/8\\\",no-pty {ED25519}\"");
        for (text, expected) in [
            ("- ${SSH_PUBLIC_KEY}", format!("- {quoted}")),
            ("key: ${SSH_PUBLIC_KEY} # hers", format!("key: {quoted} # hers")),
            ("- \"${SSH_PUBLIC_KEY}\"", format!("- {quoted}")),
            ("- '${SSH_PUBLIC_KEY}'", format!("- 'from=\"10.0.0.0/8\",no-pty {ED25519}'")),
            ("  ${SSH_PUBLIC_KEY}", format!("  from=\"10.0.0.0/8\",no-pty {ED25519}")),
        ] {
            assert_eq!(fill(text, &odd).unwrap(), expected, "{text}");
        }
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
        for text in [
            "a ${HOME} $SSH_PUBLIC_KEY ${SSH_PUBLIC_KE} ${}\n",
            "${SSH_PUBLIC_KEYS} ${SSH_PUBLIC_KEY:-none} ${SSH_PUBLIC_KEY[0]} ${SSH_PUBLIC_KEY_} ${SSH_PUBLIC_KEY",
            "$${SSH_PUBLIC_KEYS} ${SSH_PUBLIC_KEY_A:-${B}} ${#SSH_PUBLIC_KEY} ${SSH_PUBLIC_KEY_PATH%/*}\n",
        ] {
            assert_eq!(fill(text, &users()).unwrap(), text);
        }
        let text = "${SSH_PUBLIC_KEY:-${SSH_PUBLIC_KEY_DEPLOY_BOT}}";
        assert_eq!(fill(text, &users()).unwrap(), "${SSH_PUBLIC_KEY:-ssh-ed25519 C}");
    }

    #[test]
    fn one_dollar_more_keeps_a_variable() {
        let text = "x=$${SSH_PUBLIC_KEY_PATH} y=\"$${SSH_PUBLIC_KEY}\" z=${SSH_PUBLIC_KEY_DEPLOY_BOT} $$${SSH_PUBLIC_KEY}";
        let expected = "x=${SSH_PUBLIC_KEY_PATH} y=\"${SSH_PUBLIC_KEY}\" z=ssh-ed25519 C $${SSH_PUBLIC_KEY}";
        assert_eq!(fill(text, &users()).unwrap(), expected);
    }

    #[test]
    fn comments_may_speak_of_anything() {
        for text in [
            "# wants ${SSH_PUBLIC_KEY_PATH}\n",
            "  - [echo, a] # ${SSH_PUBLIC_KEY_PATH}, or ${SSH_PUBLIC_KEY}\n",
            "#${SSH_PUBLIC_KEY_EVE}",
        ] {
            assert_eq!(fill(text, &users()).unwrap(), text);
        }
        assert_eq!(fill("# ${SSH_PUBLIC_KEY_DEPLOY_BOT}", &users()).unwrap(), "# ssh-ed25519 C");
        for text in
            ["a#${SSH_PUBLIC_KEY_EVE}", "\"a # ${SSH_PUBLIC_KEY_EVE}\"", "'#' ${SSH_PUBLIC_KEY_EVE} # b"]
        {
            assert!(fill(text, &users()).is_err(), "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_place() {
        let text = "- ${SSH_PUBLIC_KEY_EVE}\nok\nx: [${SSH_PUBLIC_KEY}]\n";
        let problems = fill(text, &users()).unwrap_err();
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "cloud-init.yaml:1:3: ${SSH_PUBLIC_KEY_EVE} stands for no user's keys (the known ones are ${SSH_PUBLIC_KEY}, ${SSH_PUBLIC_KEY_ANN}, ${SSH_PUBLIC_KEY_DEPLOY_BOT}; to keep a variable of your own write $${SSH_PUBLIC_KEY_EVE})",
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
