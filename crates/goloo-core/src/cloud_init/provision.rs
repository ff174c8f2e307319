//! goloo's defaults for cloud-init's own modules: a cloud-config document that is merged behind the user's.
//! What goloo can't do without is in [`super::identity`].

use serde_json::{Map, Value, json};

use super::identity::MOUNTS;
use crate::record::UserKeys;

/// How lists are put together with the user's; of two values for one key the user's stays.
fn merge_how(lists: &str) -> Value {
    json!([
        {"name": "list", "settings": [lists]},
        {"name": "dict", "settings": ["no_replace", "recurse_list"]},
    ])
}

/// What the document is made from.
pub(super) struct Provision<'a> {
    /// Users that the user's document doesn't make.
    pub new_users: &'a [UserKeys],
    /// Whom a person logs in as: where goloo makes this user, it may become root.
    pub login_user: &'a str,
    /// Whether the list of users must keep the image's own.
    pub with_default_user: bool,
    /// Whether folders of the host are mounted.
    pub mounts: bool,
}

impl Provision<'_> {
    /// The document beside the user's.
    pub fn document(&self) -> String {
        let mut config = json!({"merge_how": merge_how("append")});
        config.as_object_mut().expect("made as an object").extend(self.config());
        cloud_config(&config)
    }

    /// What must be merged before it: something to add to in place of these keys' empty values, which
    /// cloud-init would else keep. It counts even where they aren't there in the end.
    pub fn room(&self, emptied: &[&str]) -> Option<String> {
        let mut config = json!({"merge_how": [{"name": "dict", "settings": ["replace"]}]});
        for key in emptied {
            config[*key] = json!([]);
        }
        (!emptied.is_empty()).then(|| cloud_config(&config))
    }

    /// The user's lists that it adds to, wherever it stands.
    pub fn targets(&self) -> Vec<String> {
        let mut config = self.config();
        config.extend(self.first_config().unwrap_or_default());
        config.into_iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key).collect()
    }

    /// What it says, wherever it stands. The image's host keys are other machines' too; RSA keys take a
    /// minute to make under emulation.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = json!({"ssh_deletekeys": true, "ssh_genkeytypes": ["ed25519"]});
        if !self.new_users.is_empty() {
            config["users"] = self.users();
        }
        std::mem::take(config.as_object_mut().expect("made as an object"))
    }

    /// What must be merged in front of the user's lists: the mounts, for commands that want them. They
    /// come after the users are made, for a target in a home folder must not make the home.
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
            // cloud-init's schema takes no empty list.
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

/// JSON is YAML, and leaves no doubt about quoting.
fn cloud_config(config: &Value) -> String {
    let body = serde_json::to_string(config).expect("JSON values have only string keys");
    format!("#cloud-config\n{body}\n")
}
