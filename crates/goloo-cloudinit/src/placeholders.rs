//! `${SSH_PUBLIC_KEY}` and `${SSH_PUBLIC_KEY_NAME}`: inserts the users' keys into the document.
//! Everything else is unchanged, byte for byte.

use crate::diagnostic::diagnostic;
use std::collections::HashMap;

use goloo_model::authorized_key::AuthorizedKey;
use goloo_model::record::UserKeys;
use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic};

const START: &str = "${SSH_PUBLIC_KEY";

/// The maximum size of a document with inserted keys, in bytes.
const FILLED_MAX: usize = 1 << 20;

/// A document with inserted keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub text: String,
    /// For each of its lines, the original line; both count from 1.
    pub origins: Vec<usize>,
}

/// Inserts the keys. All problems are reported at once, up to the limit.
pub(super) fn fill(text: &str, users: &[UserKeys]) -> Result<Filled, Vec<Diagnostic>> {
    let known = KnownKeys::of(users);
    let mut filled = Filled { text: String::with_capacity(text.len()), origins: Vec::new() };
    let mut diagnostics = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match fill_line(line, &known, FILLED_MAX.saturating_sub(filled.text.len())) {
            Ok(line) => {
                filled.origins.extend(line.split_inclusive('\n').map(|_| index + 1));
                filled.text.push_str(&line);
            }
            Err(Wrong { at, message, hint, ends_all }) => {
                let column = line[..at].chars().count() + 1;
                diagnostics.push(diagnostic(index + 1, column, message, hint));
                if ends_all || diagnostics.len() == DIAGNOSTICS_MAX {
                    break;
                }
            }
        }
    }
    if diagnostics.is_empty() { Ok(filled) } else { Err(diagnostics) }
}

/// A problem with a line.
struct Wrong {
    /// The position, in bytes.
    at: usize,
    message: String,
    hint: String,
    /// Whether every further line would have the same problem.
    ends_all: bool,
}

impl Wrong {
    fn new(at: usize, message: String, hint: String) -> Self {
        Self { at, message, hint, ends_all: false }
    }

    fn too_large(at: usize) -> Self {
        let message = format!("with the keys in it, the document is larger than {} KiB", FILLED_MAX >> 10);
        let hint =
            "use fewer keys here: goloo sets up the keys of the users in config.json anyway".to_owned();
        Self { ends_all: true, ..Self::new(at, message, hint) }
    }
}

/// `${SSH_PUBLIC_KEY}`, `${SSH_PUBLIC_KEY_NAME}`, or one of them after another `$`, which escapes it.
struct Placeholder {
    /// The start, including the `$` that escapes it.
    begin: usize,
    end: usize,
    is_kept: bool,
}

impl Placeholder {
    /// The first one in a line from this byte on.
    fn next(line: &str, from: usize) -> Option<Self> {
        line[from..].match_indices(START).find_map(|(at, _)| {
            let begin = from + at;
            let rest = &line[begin + START.len()..];
            let is_of_name = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
            let length = rest.bytes().position(|b| !is_of_name(b))?;
            let name = &rest[..length];
            // Anything else, such as ${SSH_PUBLIC_KEYS} and ${SSH_PUBLIC_KEY:-none}, belongs to the shell.
            let is_one = name.is_empty() || name.strip_prefix('_').is_some_and(|name| !name.is_empty());
            let is_one = is_one && rest[length..].starts_with('}');
            let is_kept = line[from..begin].ends_with('$');
            let end = begin + START.len() + length + 1;
            is_one.then_some(Self { begin: begin - usize::from(is_kept), end, is_kept })
        })
    }
}

/// Fills one line, including its line break. In a list, or if the placeholder stands alone, each key gets a separate
/// line.
fn fill_line(line: &str, known: &KnownKeys<'_>, room: usize) -> Result<String, Wrong> {
    let shape = Shape::of(line);
    let mut filled = FilledLine::default();
    let mut quote = None;
    let mut at = 0;
    while let Some(found) = Placeholder::next(line, at) {
        let before = &line[at..found.begin];
        filled.push(before);
        quote = open_quote(quote, before);
        shape.put(&found, quote, known, &mut filled)?;
        if filled.len() > room {
            return Err(Wrong::too_large(found.begin));
        }
        at = found.end;
    }
    filled.push(&line[at..]);
    if filled.len() > room {
        return Err(Wrong::too_large(0));
    }
    Ok(filled.into_text())
}

/// The structure of a line, which decides how keys are inserted into it.
struct Shape<'l> {
    line: &'l str,
    /// The start of its content, after the indentation.
    begin: usize,
    /// The end of its content, before trailing blanks and the line break.
    end: usize,
    comment: usize,
    is_item: bool,
}

impl<'l> Shape<'l> {
    fn of(line: &'l str) -> Self {
        let begin = line.len() - line.trim_start().len();
        let is_item = line[begin..].starts_with("- ");
        Self { line, begin, end: line.trim_end().len(), comment: comment_start(line), is_item }
    }

    /// Replaces a placeholder; `quote` is the quote that encloses it.
    fn put(
        &self,
        found: &Placeholder,
        quote: Option<char>,
        known: &KnownKeys<'_>,
        filled: &mut FilledLine,
    ) -> Result<(), Wrong> {
        let placeholder = &self.line[found.begin..found.end];
        if found.is_kept {
            filled.push(&placeholder[1..]);
            return Ok(());
        }
        let is_in_comment = found.begin >= self.comment;
        let keys = match known.keys_of(placeholder) {
            // A placeholder in a comment may have no keys, and may be invalid.
            Err(_) if is_in_comment => &[],
            Ok(keys) if is_in_comment && keys.len() > 1 => &[],
            Err((message, hint)) => return Err(Wrong::new(found.begin, message, hint)),
            Ok(keys) => keys,
        };
        let in_yaml = |key: &Key| key.in_yaml(quote, &self.line[..found.begin], self.behind(found));
        match keys {
            [] => filled.push(placeholder),
            [key] => filled.push(&in_yaml(key)),
            keys => {
                let stands_alone = found.begin == self.begin && found.end >= self.end;
                if filled.keys.is_some() {
                    let message = format!(
                        "{placeholder} expands to {} keys, and this line already has such a placeholder",
                        keys.len()
                    );
                    let hint = format!("write it as a list item of its own: - {placeholder}");
                    return Err(Wrong::new(found.begin, message, hint));
                }
                if !stands_alone && !self.is_item {
                    let message =
                        format!("{placeholder} expands to {} keys here, and only one is allowed", keys.len());
                    let hint = format!("write it as a list item of its own: - {placeholder}");
                    return Err(Wrong::new(found.begin, message, hint));
                }
                filled.put_each(keys.iter().map(in_yaml).collect());
            }
        }
        Ok(())
    }

    /// The text after a placeholder.
    fn behind(&self, found: &Placeholder) -> &'l str {
        self.line.get(found.end..self.end).unwrap_or_default().trim_start()
    }
}

/// A line with inserted keys: one, or one for each key of a placeholder with several.
#[derive(Default)]
struct FilledLine {
    before: String,
    keys: Option<Vec<String>>,
    /// The total size of these keys, in bytes.
    keys_len: usize,
    after: String,
}

impl FilledLine {
    fn push(&mut self, text: &str) {
        let part = if self.keys.is_some() { &mut self.after } else { &mut self.before };
        part.push_str(text);
    }

    /// The total size of its lines, in bytes.
    fn len(&self) -> usize {
        let lines = self.keys.as_ref().map_or(1, Vec::len);
        self.keys_len + lines * (self.before.len() + self.after.len() + 1)
    }

    fn put_each(&mut self, keys: Vec<String>) {
        self.keys_len = keys.iter().map(String::len).sum();
        self.keys = Some(keys);
    }

    fn into_text(self) -> String {
        let Self { before, keys: Some(keys), after, .. } = self else { return self.before };
        let mut lines = String::new();
        for (index, key) in keys.iter().enumerate() {
            if index > 0 && !lines.ends_with('\n') {
                lines.push('\n');
            }
            lines.extend([&before, key, &after].map(String::as_str));
        }
        lines
    }
}

/// The start of a line's comment, in YAML as in a shell: a `#` after a blank and outside of quotes.
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

/// The users' keys, by their names in placeholders.
struct KnownKeys<'u> {
    users: &'u [UserKeys],
    keys: Vec<Vec<Key>>,
    /// Users by their names in upper case.
    names: HashMap<String, usize>,
    /// The same with `_` instead of each hyphen.
    names_of_variables: HashMap<String, usize>,
}

impl<'u> KnownKeys<'u> {
    fn of(users: &'u [UserKeys]) -> Self {
        let keys = users.iter().map(|user| user.keys.iter().map(|key| Key::of(key)).collect()).collect();
        let (mut names, mut names_of_variables) = (HashMap::new(), HashMap::new());
        for (index, user) in users.iter().enumerate() {
            let name = user.username.to_uppercase();
            names_of_variables.entry(name.replace('-', "_")).or_insert(index);
            names.entry(name).or_insert(index);
        }
        Self { users, keys, names, names_of_variables }
    }

    /// The keys of a placeholder, or the problem and what to do about it.
    fn keys_of(&self, placeholder: &str) -> Result<&[Key], (String, String)> {
        let name = &placeholder[START.len()..placeholder.len() - 1];
        let user = match name.strip_prefix('_') {
            None => (!self.users.is_empty()).then_some(0),
            // An exact match takes precedence over one with a replaced hyphen.
            Some(name) => self.names.get(name).or_else(|| self.names_of_variables.get(name)).copied(),
        };
        let Some(user) = user else {
            let hint = format!("{}; to keep your own variable, write ${placeholder}", self.all());
            return Err((format!("{placeholder} doesn't match the keys of any user"), hint));
        };
        if self.keys[user].is_empty() {
            let username = &self.users[user].username;
            let message = format!("{placeholder}: the user \"{username}\" has no keys");
            return Err((
                message,
                "give the user a github_username, ssh_keys or ssh_key_files in config.json".to_owned(),
            ));
        }
        Ok(&self.keys[user])
    }

    /// All placeholders that have keys.
    fn all(&self) -> String {
        if self.users.is_empty() {
            return "add a user with keys to vm.users in config.json, or use -u GITHUB-USER".to_owned();
        }
        let named = self
            .users
            .iter()
            .map(|user| format!("{START}_{}}}", user.username.to_uppercase().replace('-', "_")));
        let all: Vec<_> = std::iter::once(format!("{START}}}")).chain(named).collect();
        format!("valid placeholders: {}", all.join(", "))
    }
}

/// A key as inserted into a document.
struct Key {
    text: String,
    /// Whether it has characters that are special in YAML. Text that isn't a key is left unchanged.
    is_special: bool,
}

impl Key {
    /// A key's comment is free text, and is dropped if YAML could misinterpret it: the key is the same
    /// without it. Options before a key have their own quotes, and must never be dropped: they restrict it.
    fn of(text: &str) -> Self {
        let Ok(parsed) = AuthorizedKey::parse(text) else {
            return Self { text: text.to_owned(), is_special: false };
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " @._+-/()".contains(c);
        let comment = parsed.comment.filter(|comment| comment.chars().all(is_plain));
        let text = AuthorizedKey { comment, ..parsed }.to_string();
        let is_special = text.contains(['"', '\'', '\\', '#', ':']);
        Self { text, is_special }
    }

    /// The key, escaped for the enclosing quote and the text around it.
    fn in_yaml(&self, quote: Option<char>, before: &str, after: &str) -> String {
        let key = &self.text;
        if !self.is_special {
            return key.clone();
        }
        let escaped = || key.replace('\\', "\\\\").replace('"', "\\\"");
        let is_whole_value =
            before.trim_end().ends_with(['-', ':']) && (after.is_empty() || after.starts_with('#'));
        match quote {
            Some('"') => escaped(),
            Some(_) => key.replace('\'', "\'\'"),
            None if is_whole_value => format!("\"{}\"", escaped()),
            None => key.clone(),
        }
    }
}

/// The open quote at the end of a text that begins inside `quote`.
fn open_quote(quote: Option<char>, text: &str) -> Option<char> {
    text.chars().fold(quote, |quote, character| match (quote, character) {
        (None, '"' | '\'') => Some(character),
        (Some(open), _) if open == character => None,
        _ => quote,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE";

    fn fill(text: &str, users: &[UserKeys]) -> Result<String, Vec<Diagnostic>> {
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
    fn a_list_item_is_repeated_for_each_key_with_its_surrounding_text() {
        let text = "keys:\n  - \"${SSH_PUBLIC_KEY}\" # hers\nrest\n";
        let expected = "keys:\n  - \"ssh-ed25519 A ann\" # hers\n  - \"ssh-ed25519 B ann\" # hers\nrest\n";
        assert_eq!(fill(text, &users()).unwrap(), expected);
    }

    #[test]
    fn the_last_line_needs_no_newline() {
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
    fn a_hyphen_in_a_user_name_may_be_written_as_an_underscore() {
        for name in ["DEPLOY_BOT", "DEPLOY-BOT"] {
            let text = format!("key: ${{SSH_PUBLIC_KEY_{name}}}\n");
            assert_eq!(fill(&text, &users()).unwrap(), "key: ssh-ed25519 C\n");
        }
    }

    #[test]
    fn users_that_differ_only_in_a_hyphen_are_distinguished() {
        let user = |name: &str, key: &str| UserKeys {
            username: name.to_owned(),
            github_username: None,
            keys: vec![key.to_owned()],
        };
        let both = [user("a-b", "k 1"), user("a_b", "k 2")];
        assert_eq!(fill("${SSH_PUBLIC_KEY_A_B}, ${SSH_PUBLIC_KEY_A-B}", &both).unwrap(), "k 2, k 1");
    }

    #[test]
    fn key_comments_that_yaml_could_misread_are_dropped() {
        let mut odd = users();
        odd[0].keys = vec![format!("{ED25519} ann: her #1"), format!("{ED25519} her laptop")];
        let expected = format!("- {ED25519}\n- {ED25519} her laptop");
        assert_eq!(fill("- ${SSH_PUBLIC_KEY}", &odd).unwrap(), expected);
    }

    #[test]
    fn key_options_are_kept_and_quoted_in_every_context() {
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
    fn expanded_lines_keep_their_original_line_numbers() {
        assert_eq!(super::fill("a\n- ${SSH_PUBLIC_KEY}\nb", &users()).unwrap().origins, [1, 2, 2, 3]);
    }

    #[test]
    fn the_dashes_of_a_command_option_are_not_a_list_item() {
        assert!(fill("  --key '${SSH_PUBLIC_KEY}'", &users()).is_err());
    }

    #[test]
    fn shell_variables_are_left_unchanged() {
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
    fn a_doubled_dollar_sign_escapes_a_placeholder() {
        let text = "x=$${SSH_PUBLIC_KEY_PATH} y=\"$${SSH_PUBLIC_KEY}\" z=${SSH_PUBLIC_KEY_DEPLOY_BOT} $$${SSH_PUBLIC_KEY}";
        let expected = "x=${SSH_PUBLIC_KEY_PATH} y=\"${SSH_PUBLIC_KEY}\" z=ssh-ed25519 C $${SSH_PUBLIC_KEY}";
        assert_eq!(fill(text, &users()).unwrap(), expected);
    }

    #[test]
    fn unknown_placeholders_in_comments_are_ignored() {
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

    fn with_hint(diagnostic: &Diagnostic) -> String {
        format!("{diagnostic} ({})", diagnostic.hint.debug_text())
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_positions() {
        let text = "- ${SSH_PUBLIC_KEY_EVE}\nok\nx: [${SSH_PUBLIC_KEY}]\n";
        let diagnostics = fill(text, &users()).unwrap_err();
        let shown: Vec<_> = diagnostics.iter().map(with_hint).collect();
        assert_eq!(
            shown,
            [
                "cloud-init.yaml:1:3: ${SSH_PUBLIC_KEY_EVE} doesn't match the keys of any user (valid placeholders: ${SSH_PUBLIC_KEY}, ${SSH_PUBLIC_KEY_ANN}, ${SSH_PUBLIC_KEY_DEPLOY_BOT}; to keep your own variable, write $${SSH_PUBLIC_KEY_EVE})",
                "cloud-init.yaml:3:5: ${SSH_PUBLIC_KEY} expands to 2 keys here, and only one is allowed (write it as a list item of its own: - ${SSH_PUBLIC_KEY})",
            ]
        );
    }

    #[test]
    fn a_second_multi_key_placeholder_in_a_line_is_refused() {
        let text = "- ${SSH_PUBLIC_KEY_DEPLOY_BOT}: ${SSH_PUBLIC_KEY} # ${SSH_PUBLIC_KEY}\n";
        let line = |key: &str| format!("- ssh-ed25519 C: ssh-ed25519 {key} ann # ${{SSH_PUBLIC_KEY}}\n");
        assert_eq!(fill(text, &users()).unwrap(), line("A") + &line("B"));
        let diagnostics = fill("ok\n- ${SSH_PUBLIC_KEY} - ${SSH_PUBLIC_KEY_ANN}\n", &users()).unwrap_err();
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(
            with_hint(&diagnostics[0]),
            "cloud-init.yaml:2:23: ${SSH_PUBLIC_KEY_ANN} expands to 2 keys, and this line already has such a placeholder (write it as a list item of its own: - ${SSH_PUBLIC_KEY_ANN})"
        );
        assert!(fill(&format!("- {}", "- ${SSH_PUBLIC_KEY} ".repeat(64)), &users()).is_err());
    }

    #[test]
    fn a_line_may_have_any_number_of_placeholders() {
        let count = FILLED_MAX / 32;
        let kept = "$${SSH_PUBLIC_KEY} ".repeat(count);
        assert_eq!(fill(&format!("# {kept}"), &users()).unwrap(), format!("# {}", kept.replace("$$", "$")));
        let text = format!("{}{}", "${SSH_PUBLIC_KEY_DEPLOY_BOT}".repeat(count), " ".repeat(count));
        assert_eq!(
            fill(&text, &users()).unwrap(),
            format!("{}{}", "ssh-ed25519 C".repeat(count), " ".repeat(count))
        );
        for unfinished in ["${SSH_PUBLIC_KEY", "${SSH_PUBLIC_KEY_", "$${SSH_PUBLIC_KEY:"] {
            let text = unfinished.repeat(count);
            assert_eq!(fill(&text, &users()).unwrap(), text);
        }
    }

    #[test]
    fn the_size_of_the_expanded_document_is_limited() {
        let mut many = users();
        many[0].keys = vec!["k".repeat(1000); 250];
        let place = |text: &str| {
            let diagnostics = fill(text, &many).unwrap_err();
            assert_eq!(diagnostics.len(), 1);
            assert_eq!(diagnostics[0].message, "with the keys in it, the document is larger than 1024 KiB");
            (diagnostics[0].line, diagnostics[0].column)
        };
        assert_eq!(fill(&"- ${SSH_PUBLIC_KEY}\n".repeat(4), &many).unwrap().lines().count(), 1000);
        assert_eq!(place(&"- ${SSH_PUBLIC_KEY}\n".repeat(45_000)), (5, 3));
        assert_eq!(place(&format!("- {} ${{SSH_PUBLIC_KEY}}", "x".repeat(10_000))), (1, 10_004));
        assert_eq!(place(&format!("- ${{SSH_PUBLIC_KEY}} {}", "x".repeat(10_000))), (1, 1));
    }

    #[test]
    fn the_number_of_collected_problems_is_limited() {
        let user = |number: usize| UserKeys {
            username: format!("user-{number}"),
            github_username: None,
            keys: vec![format!("k {number}")],
        };
        let many: Vec<_> = (0..2400).map(user).collect();
        let began = std::time::Instant::now();
        assert_eq!(
            fill(&"- ${SSH_PUBLIC_KEY_Q}\n".repeat(45_000), &many).unwrap_err().len(),
            DIAGNOSTICS_MAX
        );
        let filled = fill(&"- ${SSH_PUBLIC_KEY_USER_2399}\n".repeat(35_000), &many).unwrap();
        assert!(filled.ends_with("- k 2399\n"));
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }

    proptest! {
        #[test]
        fn a_text_without_placeholders_is_unchanged(text in "(\\PC|[\r\n\t${}])*") {
            prop_assume!(!text.contains(START));
            prop_assert_eq!(fill(&text, &users()).unwrap(), text);
        }
    }
}
