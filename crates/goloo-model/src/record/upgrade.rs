//! Format versions of `state.json`: older ones are upgraded on reading, newer ones are read-only.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::error::RecordError;
use super::format::{MAX_RECORD_BYTES, SCHEMA};
use super::schema_1::{self, SCHEMA_1};
use super::{CreateInputs, Record, details};

/// Parses a record. One of a newer format is read as far as this version understands it; its
/// `schema` is kept, and stores refuse to write it.
pub fn from_json(bytes: &[u8]) -> Result<Record, RecordError> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong { bytes: bytes.len() });
    }
    if let Some((_, reason, _)) = std::str::from_utf8(bytes).ok().and_then(crate::spec::beyond) {
        return Err(RecordError::TooComplex { reason });
    }
    read(bytes).map_err(|error| {
        // An error about a field of a newer format would mislead, so the format is reported instead.
        let schema = serde_json::from_slice::<Head>(bytes).map_or(SCHEMA, |head| head.schema);
        match error {
            RecordError::Json(shape) | RecordError::Field { reason: shape, .. } if schema > SCHEMA => {
                RecordError::Newer { schema, shape }
            }
            error => error,
        }
    })
}

fn read(bytes: &[u8]) -> Result<Record, RecordError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    // The derived function, which doesn't upgrade: so an error keeps its path.
    let read = Record::deserialize(&mut json).and_then(|record| json.end().map(|()| record));
    match read {
        Ok(record) => in_present_form(record),
        Err(error) => Err(with_path(bytes).unwrap_or(RecordError::Json(error))),
    }
}

/// What the derived function read, in the form of this version: the sections of schema 1 are converted, and the
/// provider's section is taken out of the fields that aren't known.
fn in_present_form(mut record: Record) -> Result<Record, RecordError> {
    match record.schema {
        0 => return Err(RecordError::NoSuchSchema),
        SCHEMA_1 => schema_1::upgrade(&mut record)?,
        _ => {}
    }
    // Also in schema 1, where it was a field of a later version: the next save makes it the provider's section.
    let provider = record.provider;
    match record.extra.shift_remove(provider.as_str()) {
        None | Some(Value::Null) => {}
        Some(Value::Object(fields)) => record.details = fields,
        Some(_) => return Err(wrong(provider.as_str(), "it must be an object")),
    }
    match details::beyond(&record.details) {
        Some(why) => Err(wrong(record.provider.as_str(), why)),
        None => Ok(record),
    }
}

fn wrong(path: &str, why: impl std::fmt::Display) -> RecordError {
    RecordError::Field { path: path.to_owned(), reason: serde_json::Error::custom(why) }
}

/// Finds the field at which parsing fails. Costs a second pass, which valid records don't need.
fn with_path(bytes: &[u8]) -> Option<RecordError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let error = serde_path_to_error::deserialize::<_, Record>(&mut json).err()?;
    let path = error.path().to_string();
    (error.path().iter().len() > 0).then(|| RecordError::Field { path, reason: error.into_inner() })
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        in_present_form(Self::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.details.is_empty() {
            return Self::serialize(self, serializer);
        }
        let mut whole = self.clone();
        let section = (self.provider.to_string(), Value::Object(std::mem::take(&mut whole.details)));
        whole.extra = std::iter::once(section).chain(whole.extra).collect();
        Self::serialize(&whole, serializer)
    }
}

/// Serializes a record as in `state.json`: indented, fields in the order of the contract, with a trailing
/// newline. The only serialization that includes the private key of an unfinished create; for output
/// serialize the [`Record`] itself.
pub fn to_json(record: &Record) -> Vec<u8> {
    let inputs = record.operation.as_ref().and_then(|operation| operation.inputs.as_ref());
    let written = match inputs {
        None => serde_json::to_vec_pretty(record),
        Some(inputs) => serde_json::to_value(record).and_then(|mut json| {
            json["operation"]["inputs"] = stored_inputs(inputs);
            serde_json::to_vec_pretty(&json)
        }),
    };
    let mut bytes = written.expect("a record has only string keys");
    bytes.push(b'\n');
    bytes
}

pub(super) fn stored_inputs(inputs: &CreateInputs) -> Value {
    let CreateInputs { host_key, users, wait, force_dns, ssh_cidr } = inputs;
    let mut json = json!({"hostKey": host_key.expose(), "users": users, "wait": wait});
    if *force_dns {
        json["forceDns"] = json!(true);
    }
    if !ssh_cidr.is_empty() {
        json["sshCidr"] = json!(ssh_cidr);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_key::HostKey;

    const SCHEMA_1_EXAMPLE: &str = r#"{
      "schema": 1, "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "serial": 7, "name": "devbox", "stack": "devbox",
      "provider": "aws", "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:33:10Z",
      "createdBy": {"user": "ann", "host": "laptop", "hostId": "h", "goloo": "0.1.0"},
      "sourceConfigPath": "/home/ann/infra/stacks/devbox", "tags": {},
      "provisioning": {"result": "done", "finishedAt": "2025-01-15T10:33:10Z"}, "operation": null,
      "resources": [{"kind": "cloudformation-stack", "id": "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-devbox/5a1f", "operation": "01JHN3W1T3K9Q2Z8F6B4C7D5E1"}],
      "aws": {"stackName": "goloo-devbox", "stackID": "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-devbox/5a1f", "instanceID": "i-0abc", "securityGroupID": "sg-0abc",
              "publicIP": "54.210.33.100", "fqdn": "devbox.example.com", "createdVPC": false}
    }"#;

    /// The same in the present form.
    fn present_example() -> Value {
        let mut json: Value = serde_json::from_str(SCHEMA_1_EXAMPLE).expect("JSON");
        json["schema"] = json!(2);
        json["hostBound"] = json!(false);
        json["endpoint"] = json!({"address": "54.210.33.100", "sshPort": 22, "fqdn": "devbox.example.com"});
        let aws = json["aws"].as_object_mut().expect("a section");
        aws.retain(|key, _| key != "publicIP" && key != "fqdn");
        json
    }

    fn written(record: &Record) -> Value {
        serde_json::from_slice(&to_json(record)).expect("JSON")
    }

    #[test]
    fn a_section_of_schema_1_under_the_providers_id_is_checked_before_a_save_makes_it_details() {
        let mut json: Value = serde_json::from_str(SCHEMA_1_EXAMPLE).expect("JSON");
        json["provider"] = json!("multipass");
        json["multipass"] = json!([1]);
        let error = from_json(json.to_string().as_bytes()).expect_err("a list is no section").to_string();
        assert!(error.contains("multipass"), "{error}");
        json["multipass"] = json!({"later": 1});
        let record = from_json(json.to_string().as_bytes()).expect("a record");
        assert_eq!(record.details["later"], json!(1));
        assert_eq!(from_json(&to_json(&record)).expect("a record"), record);
    }

    #[test]
    fn addresses_under_the_keys_of_schema_1_are_printed_only_from_the_endpoint() {
        let mut json = present_example();
        json["local"] = json!({"ip": "-oProxyCommand=x"});
        json["endpoint"] = json!({});
        json["aws"]["publicIP"] = json!("-oProxyCommand=x");
        json["aws"]["fqdn"] = json!("x");
        let output = from_json(json.to_string().as_bytes()).expect("a record").to_output();
        assert_eq!((output.get("local"), output["aws"].get("publicIP")), (None, None));
        assert_eq!(output["aws"].get("fqdn"), None);
    }

    #[test]
    fn a_record_of_schema_1_is_upgraded_and_one_of_the_present_schema_written_back_whole() {
        let upgraded = from_json(SCHEMA_1_EXAMPLE.as_bytes()).expect("a record");
        assert_eq!((upgraded.ip(), upgraded.ssh_port()), (Some("54.210.33.100"), Some(22)));
        assert_eq!(written(&upgraded), present_example());
        let present = from_json(present_example().to_string().as_bytes()).expect("a record");
        assert_eq!(present, upgraded);
    }

    #[test]
    fn a_local_record_of_schema_1_is_upgraded_with_what_a_later_version_added() {
        let mut json: Value = serde_json::from_str(SCHEMA_1_EXAMPLE).expect("JSON");
        json["provider"] = json!("multipass");
        json["local"] = json!({"ip": "10.0.0.2", "sshPort": 2022, "later": 1});
        // An address in AWS is none of a machine on this computer.
        json["aws"] = json!({"publicIP": "192.0.2.1"});
        let record = from_json(json.to_string().as_bytes()).expect("a record");
        assert!(record.host_bound && record.details.is_empty());
        let written = written(&record);
        assert_eq!(written["endpoint"], json!({"address": "10.0.0.2", "sshPort": 2022, "later": 1}));
        assert_eq!((&written["local"], &written["aws"]), (&Value::Null, &json!({"publicIP": "192.0.2.1"})));
        assert_eq!(record.to_output()["local"], json!({"ip": "10.0.0.2", "sshPort": 2022}));
        json.as_object_mut().expect("a record").shift_remove("local");
        let without = from_json(json.to_string().as_bytes()).expect("a record");
        assert_eq!((without.ip(), without.ssh_port()), (None, None));
    }

    #[test]
    fn the_output_has_the_fields_of_schema_1_too() {
        let record = from_json(SCHEMA_1_EXAMPLE.as_bytes()).expect("a record");
        let (output, before) =
            (record.to_output(), serde_json::from_str::<Value>(SCHEMA_1_EXAMPLE).expect("JSON"));
        for (key, value) in before.as_object().expect("a record").iter().filter(|(key, _)| *key != "schema") {
            assert_eq!(output[key], *value, "{key}");
        }
        assert_eq!(output.get("local"), None);
    }

    #[test]
    fn a_provider_s_section_is_an_object_of_bounded_size_and_need_not_be_known() {
        let with_section = |section: Value| {
            let mut json = present_example();
            json["provider"] = json!("my-cloud");
            json["my-cloud"] = section;
            from_json(json.to_string().as_bytes())
        };
        let record = with_section(json!({"zone": {"a": [1]}})).expect("a record");
        assert_eq!(record.details["zone"], json!({"a": [1]}));
        assert_eq!(from_json(&to_json(&record)).expect("a record"), record);
        assert!(with_section(Value::Null).expect("a record").details.is_empty());
        let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
        for hostile in [json!("text"), json!([1]), json!({"a": deep}), json!({"a": "x".repeat(300 << 10)})] {
            let error = with_section(hostile).expect_err("refused").to_string();
            assert!(error.starts_with("my-cloud: "), "{error}");
        }
    }

    #[test]
    fn unknown_fields_are_kept_at_every_level() {
        let text = SCHEMA_1_EXAMPLE
            .replace(r#""tags": {}"#, r#""tags": {}, "later": {"a": [1]}"#)
            .replace(r#""goloo": "0.1.0""#, r#""goloo": "0.1.0", "shell": "zsh""#)
            .replace(r#""createdVPC": false"#, r#""createdVPC": false, "ipv6": "::1""#);
        let written =
            String::from_utf8(to_json(&from_json(text.as_bytes()).expect("a record"))).expect("UTF-8");
        for kept in ["\"later\"", "\"shell\": \"zsh\"", "\"ipv6\": \"::1\""] {
            assert!(written.contains(kept), "{kept} is lost in {written}");
        }
    }

    /// The example with one field changed, by its JSON pointer.
    fn with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
        let mut record: serde_json::Value = serde_json::from_str(SCHEMA_1_EXAMPLE).expect("JSON");
        record["ssh"] = json!({"user": "ubuntu", "hostKey": HostKey::generate().public_openssh});
        record["history"] =
            json!([{"at": "2025-01-15T10:30:00Z", "user": "ann", "host": "h", "what": "create"}]);
        record["githubUsers"] = json!(["ann"]);
        record["origin"] = json!({"how": "adopted", "from": "x", "checked": true});
        record["operation"] = json!({
            "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "kind": "dns-swap", "step": "intent",
            "token": "01JHN3W1T3K9Q2Z8F6B4C7D5E0",
            "owner": {"user": "ann", "host": "h", "pid": 1, "pidStart": 1},
            "dns": {"zone": "Z123", "before": [], "give": [{"name": "a.example.com", "type": "A", "values": ["192.0.2.1"], "ttl": 60}]},
            "inputs": {"hostKey": "k", "wait": true, "sshCidr": ["10.0.0.0/8"],
                       "users": [{"username": "ann", "githubUsername": "ann", "keys": [HostKey::generate().public_openssh]}]},
        });
        record["local"] = json!({"ip": "127.0.0.1", "sshPort": 22});
        if let Some(field) = record.pointer_mut(pointer) {
            *field = value;
        }
        record.to_string().into_bytes()
    }

    /// Values that no field with an effect may accept: an option, a second word, a second line, a path
    /// elsewhere, a command, terminal control characters, excessive length.
    const HOSTILE: [&str; 12] = [
        "-oProxyCommand=touch /tmp/x",
        "a b\nProxyCommand touch /tmp/x",
        "a\n* ssh-ed25519 AAAA",
        "a\u{1b}]0;x\u{7}",
        "a\u{9b}31m",
        "a\u{202e}b",
        "a\0b",
        "a\rb",
        "../../etc/passwd\n",
        "$(touch /tmp/x)\n",
        "\u{2028}",
        "%h${HOME}\t",
    ];

    /// Pointers to the fields that have a rule, and the path in the error.
    const RULED: [(&str, &str); 34] = [
        ("/id", "id"),
        ("/name", "name"),
        ("/stack", "stack"),
        ("/provider", "provider"),
        ("/phase", "phase"),
        ("/createdAt", "createdAt"),
        ("/createdBy/user", "createdBy.user"),
        ("/createdBy/host", "createdBy.host"),
        ("/createdBy/hostId", "createdBy.hostId"),
        ("/createdBy/goloo", "createdBy.goloo"),
        ("/sourceConfigPath", "sourceConfigPath"),
        ("/githubUsers/0", "githubUsers"),
        ("/origin/from", "origin.from"),
        ("/ssh/user", "ssh.user"),
        ("/ssh/hostKey", "ssh.hostKey"),
        ("/local/ip", "local.ip"),
        ("/local/sshPort", "local.sshPort"),
        ("/resources/0/kind", "resources[0]"),
        ("/resources/0/id", "resources[0]"),
        ("/history/0/user", "history[0].user"),
        ("/history/0/host", "history[0].host"),
        ("/history/0/at", "history[0].at"),
        ("/operation/id", "operation.id"),
        ("/operation/owner/user", "operation.owner.user"),
        ("/operation/owner/host", "operation.owner.host"),
        ("/operation/dns/zone", "operation.dns.zone"),
        ("/operation/dns/give/0/name", "operation.dns.give[0].name"),
        ("/operation/dns/give/0/type", "operation.dns.give[0].type"),
        ("/operation/inputs/sshCidr/0", "operation.inputs.sshCidr"),
        ("/operation/inputs/users/0/username", "operation.inputs.users[0].username"),
        ("/operation/inputs/users/0/githubUsername", "operation.inputs.users[0].githubUsername"),
        ("/operation/inputs/users/0/keys/0", "operation.inputs.users[0].keys"),
        ("/aws/publicIP", "aws.publicIP"),
        ("/aws/fqdn", "aws.fqdn"),
    ];

    #[test]
    fn an_invalid_field_is_named_and_invalidates_the_record() {
        from_json(&with("/none", json!(null))).expect("a record");
        for (pointer, path) in RULED {
            // A field that accepts any line without control characters also accepts an option.
            let is_free_text =
                ["stack", "createdBy", "origin", "history", "owner"].iter().any(|word| path.contains(word));
            for hostile in HOSTILE.iter().filter(|text| !(is_free_text && text.starts_with('-'))) {
                let error = from_json(&with(pointer, json!(hostile))).expect_err(pointer).to_string();
                assert!(error.starts_with(&format!("{path}: ")), "{pointer} {hostile:?}: {error}");
            }
        }
        for (pointer, value, path) in [
            ("/serial", json!(u64::MAX), "serial"),
            ("/local/sshPort", json!(0), "local.sshPort"),
            ("/local/sshPort", json!(65_536), "local.sshPort"),
            ("/sourceConfigPath", json!("stacks/web"), "sourceConfigPath"),
            ("/createdAt", json!("-009999-01-02T01:59:59Z"), "createdAt"),
            ("/tags", json!({"a\u{1b}b": "c"}), "tags"),
            ("/tags", json!({"a": "b\nc"}), "tags"),
            ("/tags", (0..200).map(|n| (n.to_string(), json!(""))).collect(), "tags"),
            ("/createdBy/user", json!("x".repeat(300)), "createdBy.user"),
            ("/operation/dns/give/0/ttl", json!(u32::MAX), "operation.dns.give[0].ttl"),
        ] {
            let error = from_json(&with(pointer, value)).expect_err(pointer).to_string();
            assert!(error.starts_with(&format!("{path}: ")), "{pointer}: {error}");
        }
    }

    #[test]
    fn an_endpoint_that_breaks_its_rule_breaks_the_record_and_is_named() {
        for (field, hostile) in HOSTILE
            .iter()
            .flat_map(|text| [("address", json!(text)), ("fqdn", json!(text))])
            .chain([("sshPort", json!(0)), ("sshPort", json!(65_536))])
        {
            let mut json = present_example();
            json["endpoint"][field] = hostile;
            let error = from_json(json.to_string().as_bytes()).expect_err(field).to_string();
            assert!(error.starts_with(&format!("endpoint.{field}: ")), "{error}");
        }
    }

    #[test]
    fn a_record_larger_than_one_mebibyte_is_refused_without_parsing() {
        let filler = "x".repeat(MAX_RECORD_BYTES);
        let error = from_json(&with("/provisioning", json!({"result": "done", "later": filler})));
        assert!(matches!(error, Err(RecordError::TooLong { .. })), "{error:?}");
    }

    #[test]
    fn a_record_of_a_newer_schema_is_read_and_keeps_its_number() {
        let text = SCHEMA_1_EXAMPLE.replace("\"schema\": 1", "\"schema\": 3");
        assert_eq!(from_json(text.as_bytes()).expect("a record").schema, 3);
        let unreadable = text.replace("\"phase\": \"ready\"", "\"phase\": \"dreaming\"");
        let error = from_json(unreadable.as_bytes()).expect_err("no such phase").to_string();
        assert!(error.contains("newer goloo"), "{error}");
    }
}
