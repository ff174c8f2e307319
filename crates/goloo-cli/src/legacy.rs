//! The command line of goloo v0: `-c -n NAME` creates and `-d -n NAME` deletes, both in AWS.

use std::ffi::{OsStr, OsString};
use std::slice::Iter;

/// Options that take a value, in the old and the new form.
const WITH_VALUE: [&str; 6] = ["-u", "--users", "--as", "--timeout", "--provider", "--color"];

/// Options of `create` that choose the provider.
const PROVIDERS: [&str; 3] = ["--aws", "--local", "--provider"];

/// Rewrites a v0 command line into the current form, with a note that shows it.
pub fn rewrite(argv: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let Some(mut new) = argv.get(1..).and_then(todays_words) else { return (argv, None) };
    let shown: Vec<_> = new.iter().map(|word| word.to_string_lossy()).collect();
    let shown = shlex::try_join(shown.iter().map(AsRef::as_ref)).unwrap_or_else(|_| shown.join(" "));
    new.insert(0, argv[0].clone());
    (new, Some(format!("the current form of this command is: goloo {shown}")))
}

fn todays_words(words: &[OsString]) -> Option<Vec<OsString>> {
    let OldForm { verb, name, folder, rest } = OldForm::read(words)?;
    let mut new: Vec<OsString> = vec![verb?.into(), name?];
    if verb == Some("create") {
        if !rest.iter().any(|word| names_provider(word)) {
            new.push("--aws".into());
        }
        // A delete no longer needs a folder: the record names it.
        new.extend(folder.into_iter().flat_map(|folder| ["-f".into(), folder]));
    }
    new.extend(rest);
    Some(new)
}

fn names_provider(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    PROVIDERS.iter().any(|option| word.split('=').next() == Some(option))
}

/// The options of a v0 command line, in any order.
#[derive(Default)]
struct OldForm {
    verb: Option<&'static str>,
    name: Option<OsString>,
    folder: Option<OsString>,
    /// All other words, which are passed on.
    rest: Vec<OsString>,
}

impl OldForm {
    /// Reads all words; `None` when a command precedes all old options: that is the current form.
    fn read(words: &[OsString]) -> Option<Self> {
        let mut old = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            match text.split_once('=').map_or((&*text, None), |(option, value)| (option, Some(value))) {
                ("--", None) => old.rest.extend([word.clone()].into_iter().chain(words.by_ref().cloned())),
                ("--create", None) if old.verb.is_none() => old.verb = Some("create"),
                ("--delete", None) if old.verb.is_none() => old.verb = Some("delete"),
                ("--name", value) if old.name.is_none() => old.name = value_of(value, &mut words),
                ("--folder", value) if old.folder.is_none() => old.folder = value_of(value, &mut words),
                (option, None) if WITH_VALUE.contains(&option) => {
                    old.rest.push(word.clone());
                    old.rest.extend(words.next().cloned());
                }
                (option, _) if option.starts_with("--") => old.rest.push(word.clone()),
                (option, _) if option.starts_with('-') => old.read_letters(&text[1..], &mut words),
                _ if old.verb.is_none() && old.name.is_none() => return None,
                _ => old.rest.push(word.clone()),
            }
        }
        Some(old)
    }

    /// Reads short options in one word: `-cn`, `-n=web`.
    fn read_letters(&mut self, letters: &str, words: &mut Iter<'_, OsString>) {
        for (at, letter) in letters.char_indices() {
            let behind = &letters[at + letter.len_utf8()..];
            let attached = Some(behind.strip_prefix('=').unwrap_or(behind)).filter(|text| !text.is_empty());
            match letter {
                'c' if self.verb.is_none() => self.verb = Some("create"),
                'd' if self.verb.is_none() => self.verb = Some("delete"),
                'n' if self.name.is_none() => {
                    self.name = value_of(attached, words);
                    return;
                }
                'f' if self.folder.is_none() => {
                    self.folder = value_of(attached, words);
                    return;
                }
                _ => {
                    self.rest.push(format!("-{}", &letters[at..]).into());
                    return;
                }
            }
        }
    }
}

/// An option's value: the attached text, else the next word.
fn value_of(attached: Option<&str>, words: &mut Iter<'_, OsString>) -> Option<OsString> {
    attached.map(OsString::from).or_else(|| words.next().cloned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(line: &str) -> Vec<String> {
        shlex::split(line).unwrap()
    }

    fn rewritten(line: &str) -> Vec<String> {
        let (argv, _) = rewrite(words(line).into_iter().map(OsString::from).collect());
        argv.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn legacy_options_are_rewritten_in_any_order() {
        for (old, new) in [
            ("goloo -c -n web", "goloo create web --aws"),
            ("goloo -n web -c -f ./stacks", "goloo create web --aws -f ./stacks"),
            ("goloo -f ./stacks -u ann,bob -c -n web", "goloo create web --aws -f ./stacks -u ann,bob"),
            ("goloo -c --name=web --folder=a --dry-run", "goloo create web --aws -f a --dry-run"),
            ("goloo --create --name web --users 'ann, bob'", "goloo create web --aws --users 'ann, bob'"),
            ("goloo -u 'ann, bob' -cn web", "goloo create web --aws -u 'ann, bob'"),
            ("goloo -cn=web", "goloo create web --aws"),
            ("goloo -n=web -c", "goloo create web --aws"),
            ("goloo -cnweb -fa", "goloo create web --aws -f a"),
            ("goloo -v -cn web", "goloo create web --aws -v"),
            ("goloo -d -n web --yes", "goloo delete web --yes"),
            ("goloo -dn web -y -f ./stacks", "goloo delete web -y"),
            ("goloo -n web --delete", "goloo delete web"),
        ] {
            assert_eq!(rewritten(old), words(new), "{old}");
        }
    }

    #[test]
    fn a_legacy_create_accepts_a_provider() {
        for (old, new) in [
            ("goloo -c -n web --local", "goloo create web --local"),
            ("goloo --provider=qemu -c -n web", "goloo create web --provider=qemu"),
            ("goloo --provider qemu -c -n web", "goloo create web --provider qemu"),
            ("goloo -c -n web --aws", "goloo create web --aws"),
        ] {
            assert_eq!(rewritten(old), words(new), "{old}");
        }
    }

    #[test]
    fn the_note_shows_a_valid_shell_command() {
        let (_, note) = rewrite(["goloo", "-c", "-n", "web", "-u", "ann, bob"].map(OsString::from).to_vec());
        assert_eq!(
            note.unwrap(),
            "the current form of this command is: goloo create web --aws -u 'ann, bob'"
        );
    }

    #[test]
    fn current_commands_are_not_rewritten() {
        for line in [
            "goloo",
            "goloo list",
            "goloo -v --color never list -c -n x",
            "goloo ssh web -- ls -c -n x",
            "goloo exec web -- tar -c -n x",
            "goloo create -u ann web -f x",
            "goloo delete -n web -d",
            "goloo -c",
            "goloo -n web",
            "goloo -c -n",
            "goloo -- -c -n web",
        ] {
            assert_eq!(rewritten(line), words(line));
        }
    }
}
