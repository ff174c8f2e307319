//! Formats of `state.json`: older ones are read as the present one, newer ones are read-only.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CreateInputs, Record};

/// The format that this goloo writes.
pub const SCHEMA: u32 = 1;

/// Why a text is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or JSON of another shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A newer format, of a shape that this version can't read.
    #[error("written by a newer goloo in a format that this one can't read ({shape}); update goloo")]
    Newer {
        /// The format.
        schema: u32,
        /// What isn't understood.
        shape: serde_json::Error,
    },
    /// A format number that was never used.
    #[error("\"schema\" is 0; the first format is 1")]
    NoSuchSchema,
}

/// Reads a record. One of a newer format is read as far as this version understands it; its
/// `schema` stays, and stores refuse to write it.
pub fn from_json(bytes: &[u8]) -> Result<Record, RecordError> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let record: Record = match serde_json::from_slice(bytes) {
        Ok(record) => record,
        Err(error) => {
            // An error about a field of a newer format would mislead: name the format instead.
            let schema = serde_json::from_slice::<Head>(bytes).map_or(SCHEMA, |head| head.schema);
            let newer = schema > SCHEMA;
            return Err(if newer { RecordError::Newer { schema, shape: error } } else { error.into() });
        }
    };
    if record.schema == 0 {
        return Err(RecordError::NoSuchSchema);
    }
    Ok(record)
}

/// Writes a record as `state.json` holds it: indented, fields in the order of the contract, one
/// line end at the end. The only serialization that has the private key of an unfinished create; for output
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

fn stored_inputs(inputs: &CreateInputs) -> Value {
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

    const SPEC_EXAMPLE: &str = r#"{
      "schema": 1, "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "serial": 7, "name": "devbox", "stack": "devbox",
      "provider": "aws", "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:33:10Z",
      "createdBy": {"user": "ann", "host": "laptop", "hostId": "h", "goloo": "0.1.0"},
      "sourceConfigPath": "/home/ann/infra/stacks/devbox", "tags": {},
      "provisioning": {"result": "done", "finishedAt": "2025-01-15T10:33:10Z"}, "operation": null,
      "resources": [{"kind": "cloudformation-stack", "id": "arn:x", "operation": "01JHN3W1T3K9Q2Z8F6B4C7D5E1"}],
      "aws": {"stackName": "goloo-devbox", "stackID": "arn:x", "instanceID": "i-0abc", "securityGroupID": "sg-0abc",
              "publicIP": "54.210.33.100", "fqdn": "devbox.example.com", "createdVPC": false}
    }"#;

    #[test]
    fn the_contract_s_example_is_read_and_written_back_whole() {
        let record = from_json(SPEC_EXAMPLE.as_bytes()).expect("a record");
        assert_eq!(record.ip(), Some("54.210.33.100"));
        let written: serde_json::Value = serde_json::from_slice(&to_json(&record)).expect("JSON");
        let original: serde_json::Value = serde_json::from_str(SPEC_EXAMPLE).expect("JSON");
        assert_eq!(written, original);
    }

    #[test]
    fn unknown_fields_are_kept_everywhere() {
        let text = SPEC_EXAMPLE
            .replace(r#""tags": {}"#, r#""tags": {}, "later": {"a": [1]}"#)
            .replace(r#""goloo": "0.1.0""#, r#""goloo": "0.1.0", "shell": "zsh""#)
            .replace(r#""createdVPC": false"#, r#""createdVPC": false, "ipv6": "::1""#);
        let written =
            String::from_utf8(to_json(&from_json(text.as_bytes()).expect("a record"))).expect("UTF-8");
        for kept in ["\"later\"", "\"shell\": \"zsh\"", "\"ipv6\": \"::1\""] {
            assert!(written.contains(kept), "{kept} is lost in {written}");
        }
    }

    #[test]
    fn a_newer_format_is_read_and_keeps_its_number() {
        let text = SPEC_EXAMPLE.replace("\"schema\": 1", "\"schema\": 2");
        assert_eq!(from_json(text.as_bytes()).expect("a record").schema, 2);
        let unreadable = text.replace("\"phase\": \"ready\"", "\"phase\": \"dreaming\"");
        let error = from_json(unreadable.as_bytes()).expect_err("no such phase").to_string();
        assert!(error.contains("newer goloo"), "{error}");
    }
}
