//! The old short forms: `-c -n NAME` creates and `-d -n NAME` deletes, both in AWS.

use std::ffi::OsString;

/// Rewrites an old command line into today's, with a note that says what it is called now.
pub fn rewrite(argv: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let mut rest = Vec::new();
    let (mut verb, mut name) = (None, None);
    let mut words = argv.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-c" | "--create") if verb.is_none() => verb = Some("create"),
            Some("-d" | "--delete") if verb.is_none() => verb = Some("delete"),
            Some("-n" | "--name") if name.is_none() => name = words.next().cloned(),
            Some("--") => {
                rest.push(word.clone());
                rest.extend(words.by_ref().cloned());
            }
            // A command that stands before any old flag is today's form.
            Some(text) if verb.is_none() && name.is_none() && !text.starts_with('-') => {
                return (argv, None);
            }
            _ => rest.push(word.clone()),
        }
    }
    let (Some(verb), Some(name)) = (verb, name) else { return (argv, None) };
    let program = argv.first().cloned().unwrap_or_else(|| "goloo".into());
    let mut new = vec![program, verb.into(), name.clone()];
    if verb == "create" {
        new.push("--aws".into());
    }
    let shown: Vec<_> = new[1..].iter().map(|word| word.to_string_lossy()).collect();
    let note = format!("this is now called: goloo {}", shown.join(" "));
    new.extend(rest);
    (new, Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let (argv, _) = rewrite(line.split(' ').map(OsString::from).collect());
        argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn old_forms_become_todays_in_any_order() {
        assert_eq!(rewritten("goloo -c -n web"), "goloo create web --aws");
        assert_eq!(rewritten("goloo -n web -c -f ./stacks"), "goloo create web --aws -f ./stacks");
        assert_eq!(rewritten("goloo -d -n web --yes"), "goloo delete web --yes");
    }

    #[test]
    fn todays_forms_are_left_alone() {
        for line in [
            "goloo",
            "goloo list",
            "goloo ssh web -- ls -c -n x",
            "goloo exec web -- tar -c -n x",
            "goloo -c",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }
}
