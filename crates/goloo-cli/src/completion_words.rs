//! The words of a request for completions.

use std::ffi::{OsStr, OsString};

/// The index of the word at the cursor, in shells that send the words after it, too.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// The words of a request.
pub struct Words {
    /// All of them, with the program's name.
    pub all: Vec<OsString>,
    /// The position of the one at the cursor.
    pub index: usize,
}

impl Words {
    /// `None` if the process isn't a request.
    pub fn of(argv: &[OsString]) -> Option<Self> {
        let start = argv.iter().position(|word| word == "--")? + 1;
        let all = argv.get(start..).filter(|words| !words.is_empty())?.to_vec();
        let index = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
        Some(Self { index: index.unwrap_or(all.len() - 1), all })
    }

    /// Joins the parts of words with colons, such as `web:/etc`, which bash sends apart: `web`, `:`, `/etc`. It doesn't
    /// send the spaces between words, so what follows a colon stays apart where it is the word at the cursor.
    pub fn with_colons(self) -> Self {
        let mut joined = Self { all: Vec::new(), index: self.index };
        let mut is_open = false;
        for (at, word) in self.all.into_iter().enumerate() {
            let is_colon = word == ":" && at > 1;
            if (is_colon || is_open)
                && at != self.index
                && let Some(last) = joined.all.last_mut()
            {
                last.push(&word);
                joined.index -= usize::from(at < self.index);
            } else {
                joined.all.push(word);
            }
            is_open = is_colon;
        }
        joined
    }

    /// The one at the cursor; empty if it isn't there yet.
    pub fn current(&self) -> &OsStr {
        self.all.get(self.index).map_or(OsStr::new(""), OsString::as_os_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_colons_are_joined_except_at_the_cursor() {
        let joined = |words: &str, index| {
            let all = words.split(' ').map(OsString::from).collect();
            let joined = Words { all, index }.with_colons();
            let all: Vec<_> = joined.all.iter().map(|word| word.to_string_lossy()).collect();
            (all.join(" "), joined.index)
        };
        assert_eq!(joined("goloo cp web : x no", 5), ("goloo cp web:x no".to_owned(), 3));
        assert_eq!(joined("goloo cp no web : x", 3), ("goloo cp no web:x".to_owned(), 3));
        assert_eq!(joined("goloo cp web : no", 4), ("goloo cp web: no".to_owned(), 3));
        assert_eq!(joined("goloo cp web", 2), ("goloo cp web".to_owned(), 2));
    }
}
