//! User-data in CloudFormation: it contains the machine's private host key and any secrets in the user's document, so
//! no template, description or event of a stack may show it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The maximum size of a parameter's value, in bytes.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const VALUE_MAX: usize = 4_096;

/// What CloudFormation itself shows instead of a hidden value.
const MASK: &str = "****";

/// User-data in base64, split into pieces that each fit into one parameter. The template declares the parameters
/// `NoEcho` and joins them. Like a private key, it implements no `Display`, and its debug output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenUserData(Vec<String>);

impl HiddenUserData {
    /// Encodes a machine's user-data.
    pub fn of(user_data: &[u8]) -> Self {
        let text = STANDARD.encode(user_data);
        let piece = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self(text.as_bytes().chunks(VALUE_MAX).map(piece).collect())
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        (1..=self.0.len()).map(|number| format!("UserData{number}"))
    }

    /// The parameters' declarations.
    pub fn declarations(&self) -> Map<String, Value> {
        self.keys().map(|key| (key, json!({"Type": "String", "NoEcho": true}))).collect()
    }

    /// The value of the instance's property in the template.
    pub fn joined(&self) -> Value {
        let pieces: Value = self.keys().map(|key| json!({"Ref": key})).collect();
        json!({"Fn::Join": ["", pieces]})
    }

    /// The parameters with their values, only for the request that creates the stack.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &str)> {
        self.keys().zip(self.0.iter().map(String::as_str))
    }

    /// The parameters with masked values, for display.
    pub fn masked(&self) -> Map<String, Value> {
        self.keys().map(|key| (key, MASK.into())).collect()
    }
}

impl fmt::Debug for HiddenUserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HiddenUserData({} pieces)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_data_is_split_into_parameters_and_rejoined_unchanged() {
        // EC2 accepts at most 16,384 bytes.
        for (length, pieces) in [(1, 1), (3_072, 1), (3_073, 2), (16_384, 6)] {
            let user_data: Vec<u8> = (0..length).map(|byte: u32| byte.to_le_bytes()[0]).collect();
            let hidden = HiddenUserData::of(&user_data);
            assert!(hidden.parameters().all(|(_, piece)| piece.len() <= VALUE_MAX));
            assert_eq!(hidden.parameters().count(), pieces, "{length} bytes");
            let joined: String = hidden.parameters().map(|(_, piece)| piece).collect();
            assert_eq!(STANDARD.decode(joined).unwrap(), user_data);
        }
    }

    #[test]
    fn displayed_forms_do_not_contain_the_user_data() {
        let hidden = HiddenUserData::of(b"#cloud-config\npassword: secret\n");
        let (_, piece) = hidden.parameters().next().unwrap();
        let shown = [hidden.declarations().into(), hidden.joined(), hidden.masked().into()];
        for shown in shown.map(|value: Value| value.to_string()).iter().chain([&format!("{hidden:?}")]) {
            assert!(!shown.contains(piece) && !shown.contains("secret"), "{shown}");
        }
        assert_eq!(hidden.declarations()["UserData1"]["NoEcho"], true);
    }
}
