//! Formats of `state.json`: older ones are read as the present one, newer ones are read-only.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CreateInputs, Record, checks};

/// The format that this goloo writes.
pub const SCHEMA: u32 = 1;

/// The longest record, in bytes of JSON: a thousand times what goloo writes, so that nobody's record takes the
/// memory of those who list.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Why a text is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than any record.
    #[error("it has {bytes} bytes; a record has at most {MAX_RECORD_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or JSON of another shape.
    #[error("{0}")]
    Json(serde_json::Error),
    /// A field doesn't hold what it must.
    #[error("{path}: {reason}")]
    Field {
        /// Where it is, as `createdBy.user` or `resources[0].id`.
        path: String,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
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
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong { bytes: bytes.len() });
    }
    read(bytes).map_err(|error| {
        // An error about a field of a newer format would mislead: name the format instead.
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
    use serde::de::Error;
    let record: Record = match serde_json::from_slice(bytes) {
        Ok(record) => record,
        Err(error) => return Err(with_path(bytes).unwrap_or(RecordError::Json(error))),
    };
    if record.schema == 0 {
        return Err(RecordError::NoSuchSchema);
    }
    if let Some(aws) = &record.aws {
        checks::check_aws(aws).map_err(|error| in_field("aws.", error))?;
    }
    if let Some(local) = &record.local {
        checks::check_local(record.provider, &local.ip).map_err(|error| RecordError::Field {
            path: "local.ip".to_owned(),
            reason: serde_json::Error::custom(error),
        })?;
    }
    Ok(record)
}

/// Which field an unreadable record fails at. It costs a second reading, which sound records are spared.
fn with_path(bytes: &[u8]) -> Option<RecordError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let error = serde_path_to_error::deserialize::<_, Record>(&mut json).err()?;
    (error.path().iter().len() > 0).then(|| in_field("", error))
}

fn in_field(section: &str, error: serde_path_to_error::Error<serde_json::Error>) -> RecordError {
    RecordError::Field { path: format!("{section}{}", error.path()), reason: error.into_inner() }
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
    use crate::cloud_init::HostKey;

    const SPEC_EXAMPLE: &str = r#"{
      "schema": 1, "id": "01JHN3W1T3K9Q2Z8F6B4C7D5E0", "serial": 7, "name": "devbox", "stack": "devbox",
      "provider": "aws", "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:33:10Z",
      "createdBy": {"user": "ann", "host": "laptop", "hostId": "h", "goloo": "0.1.0"},
      "sourceConfigPath": "/home/ann/infra/stacks/devbox", "tags": {},
      "provisioning": {"result": "done", "finishedAt": "2025-01-15T10:33:10Z"}, "operation": null,
      "resources": [{"kind": "cloudformation-stack", "id": "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-devbox/5a1f", "operation": "01JHN3W1T3K9Q2Z8F6B4C7D5E1"}],
      "aws": {"stackName": "goloo-devbox", "stackID": "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-devbox/5a1f", "instanceID": "i-0abc", "securityGroupID": "sg-0abc",
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

    /// The example with one field changed, by its JSON pointer.
    fn with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
        let mut record: serde_json::Value = serde_json::from_str(SPEC_EXAMPLE).expect("JSON");
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
        for (key, known) in [
            ("region", "us-east-1"),
            ("instanceType", "t3.micro"),
            ("amiID", "ami-0abc"),
            ("vpcID", "vpc-0abc"),
            ("subnetID", "subnet-0abc"),
            ("zoneID", "Z123"),
        ] {
            record["aws"][key] = known.into();
        }
        record["aws"]["sshCIDR"] = json!(["10.0.0.0/8"]);
        record["aws"]["dnsRecords"] =
            json!([{"name": "a.example.com", "type": "A", "value": "192.0.2.1", "ttl": 60}]);
        record["aws"]["previousDNS"] = json!({"at": "2025-01-15T10:30:00Z", "records": []});
        if let Some(field) = record.pointer_mut(pointer) {
            *field = value;
        }
        record.to_string().into_bytes()
    }

    /// What nothing in a record that a program acts on may hold: an option, a second word, a second line, a path
    /// elsewhere, a command, what steers a terminal, too much.
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

    /// Pointers to the fields that have a rule, and the path that an error names.
    const RULED: [(&str, &str); 45] = [
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
        ("/aws/stackName", "aws.stackName"),
        ("/aws/stackID", "aws.stackID"),
        ("/aws/instanceID", "aws.instanceID"),
        ("/aws/publicIP", "aws.publicIP"),
        ("/aws/fqdn", "aws.fqdn"),
        ("/aws/region", "aws.region"),
        ("/aws/instanceType", "aws.instanceType"),
        ("/aws/amiID", "aws.amiID"),
        ("/aws/vpcID", "aws.vpcID"),
        ("/aws/subnetID", "aws.subnetID"),
        ("/aws/zoneID", "aws.zoneID"),
        ("/aws/sshCIDR/0", "aws.sshCIDR"),
        ("/aws/dnsRecords/0/name", "aws.dnsRecords[0].name"),
    ];

    #[test]
    fn a_field_that_breaks_its_rule_breaks_the_record_and_is_named() {
        from_json(&with("/none", json!(null))).expect("a record");
        for (pointer, path) in RULED {
            // Where any line without control characters is one, an option is one, too.
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

    /// It is reached on a forwarded port of this computer, and at no address that a record could choose.
    #[test]
    fn a_machine_of_qemu_is_on_the_loopback() {
        let record = |provider: &str, ip: &str| {
            let mut record: serde_json::Value =
                serde_json::from_slice(&with("/local/ip", json!(ip))).expect("JSON");
            record["provider"] = json!(provider);
            from_json(record.to_string().as_bytes())
        };
        for (provider, ip) in
            [("qemu", "127.0.0.1"), ("qemu", "127.3.2.1"), ("qemu", "::1"), ("multipass", "10.0.0.2")]
        {
            record(provider, ip).expect(ip);
        }
        for ip in ["10.0.0.2", "192.0.2.1", "0.0.0.0", "2001:db8::1", "localhost", "evil.example"] {
            let error = record("qemu", ip).expect_err(ip).to_string();
            assert!(error.starts_with("local.ip: ") && error.contains("loopback"), "{ip}: {error}");
        }
    }

    #[test]
    fn a_record_of_more_than_a_mebibyte_is_refused_unread() {
        let filler = "x".repeat(MAX_RECORD_BYTES);
        let error = from_json(&with("/provisioning", json!({"result": "done", "later": filler})));
        assert!(matches!(error, Err(RecordError::TooLong { .. })), "{error:?}");
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
