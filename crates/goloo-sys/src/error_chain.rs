//! Errors with their causes.

use std::error::Error;
use std::io;

/// An error and its causes, outermost first. What an [`io::Error`] carries counts as its cause.
pub fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| {
        let error: &'e (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|carried| carried as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The causes of an error as texts, outermost first; one that repeats the text before it is skipped.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

/// An error and its causes on one line; a cause that repeats the text before it is skipped.
pub fn in_one_line(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    texts.extend(causes(error));
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    fn told(text: &'static str, source: impl Error + Send + Sync + 'static) -> Told {
        Told { text, source: Some(Box::new(source)) }
    }

    #[test]
    fn a_cause_that_repeats_the_text_before_it_is_told_once() {
        let error = told(
            "can't save",
            told("can't write", told("can't write", io::Error::from(ErrorKind::NotFound))),
        );
        assert_eq!(causes(&error), ["can't write", "entity not found"]);
        assert_eq!(in_one_line(&error), "can't save: can't write: entity not found");
        assert_eq!(in_one_line(&told("same", Told { text: "same", source: None })), "same");
    }

    #[test]
    fn the_error_that_an_error_of_the_system_carries_is_a_cause() {
        let carried = io::Error::other(Told { text: "inner", source: None });
        assert!(
            chain(&told("outer", carried)).any(|error| error.is::<Told>() && error.to_string() == "inner")
        );
    }
}
