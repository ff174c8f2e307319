//! goloo's defaults for cloud-init's own modules: a cloud-config document that is merged after the user's.
//! What goloo requires is in [`super::identity`].

use serde_json::{Map, Value, json};

use super::identity::MOUNTS;
use goloo_model::record::UserKeys;

/// How lists are combined with the user's; if both have a value for a key, the user's is kept.
fn merge_how(lists: &str) -> Value {
    json!([
        {"name": "list", "settings": [lists]},
        {"name": "dict", "settings": ["no_replace", "recurse_list"]},
    ])
}

/// The inputs of the document.
pub(super) struct Provision<'a> {
    /// Users that the user's document doesn't create.
    pub new_users: &'a [UserKeys],
    /// The login user: if goloo creates it, it may use sudo.
    pub login_user: &'a str,
    /// Whether the list of users must keep the image's own.
    pub with_default_user: bool,
    /// Whether folders of the host are mounted.
    pub mounts: bool,
    /// Whether the machine is a new one.
    pub is_new: bool,
}

impl Provision<'_> {
    /// The document to be sent next to the user's.
    pub fn document(&self) -> String {
        let mut config = json!({"merge_how": merge_how("append")});
        config.as_object_mut().expect("made as an object").extend(self.config());
        cloud_config(&config)
    }

    /// The document to be merged before it: empty lists in place of these keys' null values, which
    /// cloud-init would otherwise keep. Correct even if the keys turn out not to exist.
    pub fn room(&self, emptied: &[&str]) -> Option<String> {
        let mut config = json!({"merge_how": [{"name": "dict", "settings": ["replace"]}]});
        for key in emptied {
            config[*key] = json!([]);
        }
        (!emptied.is_empty()).then(|| cloud_config(&config))
    }

    /// The user's lists that it adds to, in every form.
    pub fn targets(&self) -> Vec<String> {
        let mut config = self.config();
        config.extend(self.first_config().unwrap_or_default());
        config.into_iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key).collect()
    }

    /// The content, in every form. The host keys of an image are shared with other machines; generating RSA keys takes
    /// a minute under emulation.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = json!({"ssh_deletekeys": self.is_new, "ssh_genkeytypes": ["ed25519"]});
        if !self.new_users.is_empty() {
            config["users"] = self.users();
        }
        std::mem::take(config.as_object_mut().expect("made as an object"))
    }

    /// The document to be merged before the user's lists: the mounts, for commands that need them. They
    /// come after the creation of users, since a target in a home folder must not create the home.
    pub fn first_document(&self) -> Option<String> {
        self.first_config().map(|first| {
            let mut config = json!({"merge_how": merge_how("prepend")});
            config.as_object_mut().expect("made as an object").extend(first);
            cloud_config(&config)
        })
    }

    fn first_config(&self) -> Option<Map<String, Value>> {
        let command = format!("{MOUNTS} || exit 1");
        self.mounts.then(|| Map::from_iter([("runcmd".to_owned(), json!([command]))]))
    }

    fn users(&self) -> Value {
        let default = self.with_default_user.then(|| json!("default"));
        let users = self.new_users.iter().map(|user| {
            let mut entry = json!({
                "name": user.username, "shell": "/bin/bash", "lock_passwd": true,
            });
            // cloud-init's schema rejects an empty list.
            if !user.keys.is_empty() {
                entry["ssh_authorized_keys"] = json!(user.keys);
            }
            if user.username == self.login_user {
                entry["sudo"] = json!("ALL=(ALL) NOPASSWD:ALL");
                entry["groups"] = json!("adm");
            }
            entry
        });
        default.into_iter().chain(users).collect()
    }
}

/// JSON is valid YAML, and quotes everything unambiguously.
fn cloud_config(config: &Value) -> String {
    let body = serde_json::to_string(config).expect("JSON values have only string keys");
    format!("#cloud-config\n{body}\n")
}
