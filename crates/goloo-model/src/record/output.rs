//! The record as commands print it.

use serde_json::{Value, json};

use super::Record;

impl Record {
    /// The record as `--json` prints it: without private keys (see [`secret`](crate::secret)), and with the addresses also
    /// where programs have read them since schema 1: in `local` for a machine of one host, else beside the details in the
    /// provider's section.
    pub fn to_output(&self) -> Value {
        let mut json = serde_json::to_value(self).expect("a record has only string keys");
        self.remove_unchecked_addresses(&mut json);
        let address = self.address();
        if self.host_bound {
            if let (Some(address), Some(port)) = (address, self.ssh_port()) {
                json["local"] = json!({"ip": address, "sshPort": port});
            }
        } else if !self.endpoint.is_empty() {
            let section = json[self.provider.as_str()].take();
            let mut section = if let Value::Object(section) = section { section } else { Default::default() };
            section.extend(address.map(|address| ("publicIP".to_owned(), json!(address))));
            section.extend(self.fqdn().map(|fqdn| ("fqdn".to_owned(), json!(fqdn))));
            json[self.provider.as_str()] = Value::Object(section);
        }
        json
    }

    /// Only the endpoint's fields are checked: a record may have anything under the keys of schema 1.
    fn remove_unchecked_addresses(&self, json: &mut Value) {
        let Some(fields) = json.as_object_mut() else { return };
        fields.shift_remove("local");
        for section in ["aws", self.provider.as_str()] {
            if let Some(Value::Object(section)) = fields.get_mut(section) {
                section.shift_remove("publicIP");
                section.shift_remove("fqdn");
            }
        }
    }
}
