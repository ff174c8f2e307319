//! Formats values as YAML text. All strings are double-quoted plain ASCII, which every YAML parser
//! interprets the same way; keys are goloo's own. Nested values are written on one line.

use std::fmt::Write;

use serde_json::Value;

use super::super::tree::{Content, Node, ScalarStyle};

/// Keys with their values, in block style.
pub(super) fn keys(keys: &[(&str, &Value)], indent: &str, line_end: &str) -> String {
    let deeper = format!("{indent}  ");
    let key = |(name, value): &(&str, &Value)| match value {
        Value::Array(list) if !list.is_empty() => {
            format!("{indent}{name}:{line_end}{}", items(list, &deeper, line_end))
        }
        Value::Object(map) if !map.is_empty() => {
            let nested: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
            let lines =
                nested.iter().map(|(name, value)| format!("{deeper}{name}: {}{line_end}", flow(value)));
            format!("{indent}{name}:{line_end}{}", lines.collect::<String>())
        }
        _ => format!("{indent}{name}: {}{line_end}", flow(value)),
    };
    keys.iter().map(key).collect()
}

/// Items of a list, in block style.
pub(super) fn items(items: &[Value], indent: &str, line_end: &str) -> String {
    items.iter().map(|item| format!("{indent}- {}{line_end}", flow(item))).collect()
}

/// Keys with their values, in flow style without braces.
pub(super) fn flow_keys<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let keys = keys.into_iter().map(|(name, value)| format!("{name}: {}", flow(value)));
    keys.collect::<Vec<_>>().join(", ")
}

/// Items in flow style without brackets.
pub(super) fn flow_items(items: &[Value]) -> String {
    items.iter().map(flow).collect::<Vec<_>>().join(", ")
}

/// A value in flow style.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", flow_items(items)),
        Value::Object(map) => {
            format!("{{{}}}", flow_keys(map.iter().map(|(name, value)| (name.as_str(), value))))
        }
        Value::String(text) => quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// JSON's quoting isn't sufficient: YAML 1.1 has line breaks that JSON doesn't escape, and doesn't
/// combine surrogates.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            ' '..='~' => quoted.push(character),
            _ => write!(quoted, "\\U{:08X}", u32::from(character)).expect("a string takes all text"),
        }
    }
    quoted.push('"');
    quoted
}

/// The node that results from parsing a value.
pub(super) fn node(value: &Value) -> Node {
    Node::new(match value {
        Value::Array(items) => Content::List(items.iter().map(node).collect()),
        Value::Object(map) => {
            Content::Map(map.iter().map(|(name, value)| (key_node(name), node(value))).collect())
        }
        Value::String(text) => Content::Scalar(text.clone(), ScalarStyle::DoubleQuoted),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            Content::Scalar(value.to_string(), ScalarStyle::Plain)
        }
    })
}

/// The node that results from parsing a key.
pub(super) fn key_node(name: &str) -> Node {
    Node::new(Content::Scalar(name.to_owned(), ScalarStyle::Plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::super::tree::Document;
    use super::*;

    fn read(text: &str) -> Node {
        Document::read(&format!("a: {text}\n")).unwrap().root.unwrap().pairs()[0].1.clone()
    }

    #[test]
    fn written_values_parse_to_the_expected_nodes() {
        let value = json!({"a": [1, true, null, "x: # y", []], "b": {"c": {}, "d": "0644"}});
        assert_eq!(read(&flow(&value)), node(&value));
        let nested = keys(&[("k", &value)], "  ", "\n");
        assert_eq!(read(&format!("\n{nested}")).pairs()[0].1, node(&value));
    }

    proptest! {
        #[test]
        fn quoted_strings_are_one_line_of_ascii_and_survive_a_round_trip(text in any::<String>()) {
            let written = quoted(&text);
            prop_assert!(written.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{written}");
            let read = read(&written);
            prop_assert_eq!(read.text(), Some(text.as_str()));
        }
    }
}
