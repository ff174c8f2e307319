//! The user-data on its way through CloudFormation: it holds the machine's private host key and whatever
//! secrets the user's document has, so no template, description or event of a stack may show it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// So many bytes a parameter's value may have.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const VALUE_MAX: usize = 4_096;

/// What CloudFormation itself shows in place of a hidden value.
const MASK: &str = "****";

/// User-data in base64, cut into pieces that each fit into one parameter. The template declares the parameters
/// `NoEcho` and joins them. Like a private key it can't be displayed, and its debug form leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenUserData(Vec<String>);

impl HiddenUserData {
    /// Of a machine's user-data.
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

    /// What the instance's property is in the template.
    pub fn joined(&self) -> Value {
        let pieces: Value = self.keys().map(|key| json!({"Ref": key})).collect();
        json!({"Fn::Join": ["", pieces]})
    }

    /// The parameters with their values, for the request that makes the stack and nothing else.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &str)> {
        self.keys().zip(self.0.iter().map(String::as_str))
    }

    /// The parameters as they may be shown.
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
    fn the_pieces_fit_into_parameters_and_give_the_user_data_when_joined() {
        // EC2 takes 16,384 bytes at most.
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
    fn what_is_shown_holds_nothing_of_it() {
        let hidden = HiddenUserData::of(b"#cloud-config\npassword: secret\n");
        let (_, piece) = hidden.parameters().next().unwrap();
        let shown = [hidden.declarations().into(), hidden.joined(), hidden.masked().into()];
        for shown in shown.map(|value: Value| value.to_string()).iter().chain([&format!("{hidden:?}")]) {
            assert!(!shown.contains(piece) && !shown.contains("secret"), "{shown}");
        }
        assert_eq!(hidden.declarations()["UserData1"]["NoEcho"], true);
    }
}
