//! Files with `@NAME@` where a release's values go.

use super::Result;

/// The text with each value in its place. It is an error if a value has no place, or a place no value.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = format!("@{name}@");
        if !template.contains(&place) {
            return Err(format!("the template has no {place}").into());
        }
        text = text.replace(&place, value);
    }
    match unfilled(&text) {
        Some(name) => Err(format!("nothing fills @{name}@").into()),
        None => Ok(text),
    }
}

/// The first name between two `@` in a line.
fn unfilled(text: &str) -> Option<&str> {
    let is_name = |word: &&str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.lines().find_map(|line| line.split('@').skip(1).find(is_name))
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn every_place_gets_its_value() {
        let filled = fill("a@b.example @NAME@-@SHA256@\n@NAME@", &[("NAME", "x"), ("SHA256", "0f")]);
        assert_eq!(filled.expect("all places have values"), "a@b.example x-0f\nx");
    }

    #[test]
    fn a_place_without_a_value_and_a_value_without_a_place_are_errors() {
        let error = |template, name| fill(template, &[(name, "x")]).expect_err("one is missing").to_string();
        assert_eq!(error("@NAME@ @OTHER@", "NAME"), "nothing fills @OTHER@");
        assert_eq!(error("x", "NAME"), "the template has no @NAME@");
    }
}
