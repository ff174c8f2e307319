//! The keys of baked images.

use std::path::Path;

use goloo_cloudinit::{ComposeInput, InProcessRenderer, bake_key, per_machine_values};
use goloo_model::host_key::HostKey;
use goloo_model::name::VmName;
use goloo_model::record::{Digest, UserKeys};
use goloo_model::spec::{Diagnostic, ResolvedStack, Sources, resolve};
use proptest::prelude::*;

use crate::common::providers;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// What goes into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ingredients {
    base: String,
    document: Option<String>,
    script: Option<String>,
    variable: String,
    packages: Vec<String>,
    users: Vec<String>,
}

impl Ingredients {
    fn stack(&self) -> ResolvedStack {
        let users: Vec<_> = self.users.iter().map(|name| serde_json::json!({"username": name})).collect();
        let config = serde_json::json!({
            "vm": {"image": "debian-12", "users": users},
            "cloud_init": {"vars": {"value": self.variable}, "packages": self.packages},
        });
        let config = config.to_string();
        let template = |text: &String| {
            format!(
                "## template: goloo\n#cloud-config\nfinal_message: {text:?}\n# {{{{ vars.value }}}} {{{{ packages }}}}\n"
            )
        };
        let document = self.document.as_ref().map(template);
        let sources = Sources {
            given: "box",
            as_name: None,
            stack: "box",
            folder: Path::new("/stacks/box"),
            config: config.as_bytes(),
            cloud_init: document.as_deref().map(str::as_bytes),
            configure: self.script.as_deref().map(str::as_bytes),
            home: Path::new("/home/ann"),
            sections: &[],
            auto_ports: false,
        };
        resolve(&sources).unwrap().stack
    }

    fn key(&self) -> Digest {
        key(&self.stack(), &self.users, &self.base).unwrap()
    }
}

fn input<T>(stack: &ResolvedStack, users: &[String], work: impl FnOnce(&ComposeInput<'_>) -> T) -> T {
    let keys = |name: &String| UserKeys {
        username: name.clone(),
        github_username: None,
        keys: vec![KEY.to_owned()],
    };
    let users: Vec<_> = users.iter().map(keys).collect();
    work(&ComposeInput {
        stack,
        users: &users,
        client_key: KEY,
        // Another one each time.
        host_key: Some(&HostKey::generate()),
        provider: &providers::QEMU,
        network: None,
        renderer: &InProcessRenderer,
    })
}

fn key(stack: &ResolvedStack, users: &[String], base: &str) -> Result<Digest, Vec<Diagnostic>> {
    input(stack, users, |input| bake_key(input, base))
}

fn ingredients() -> impl Strategy<Value = Ingredients> {
    let text = || prop::option::of("[ab]{1,3}");
    let names = || prop::collection::btree_set("[a-c]{1,2}", 0..3);
    ("[01]{2}", text(), text(), "[xy]{1,2}", names(), names()).prop_map(
        |(base, document, script, variable, packages, users)| Ingredients {
            // Without a document its variables aren't used.
            variable: if document.is_some() { variable } else { "x".to_owned() },
            packages: if document.is_some() { packages.into_iter().collect() } else { Vec::new() },
            users: users.into_iter().collect(),
            base,
            document,
            script,
        },
    )
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_if_all_that_goes_into_the_image_is(one in ingredients(), other in ingredients()) {
        prop_assert_eq!(one.key(), one.clone().key());
        prop_assert_eq!(one.key() == other.key(), one == other);
    }
}

#[test]
fn a_key_does_not_depend_on_what_each_copy_has_of_its_own() {
    let ingredients = Ingredients {
        base: "00".to_owned(),
        document: Some("a".to_owned()),
        script: None,
        variable: "x".to_owned(),
        packages: Vec::new(),
        users: vec!["ann".to_owned()],
    };
    let stack = ingredients.stack();
    let other = ResolvedStack {
        name: VmName::parse("other").unwrap(),
        cpus: 7,
        disk: goloo_model::spec::Size::gib(99),
        ttl: Some(3600),
        ..stack.clone()
    };
    let users = ["ann".to_owned()];
    let plain = key(&stack, &users, "00").unwrap();
    assert_eq!(plain, key(&other, &users, "00").unwrap());
    let network = Some("10.88.3.5/24".to_owned().try_into().unwrap());
    let member = input(&stack, &users, |input| bake_key(&ComposeInput { network, ..*input }, "00"));
    assert_eq!(plain, member.unwrap());
}

#[test]
fn a_key_depends_on_the_provider() {
    let ingredients = Ingredients {
        base: "00".to_owned(),
        document: None,
        script: None,
        variable: "x".to_owned(),
        packages: Vec::new(),
        users: Vec::new(),
    };
    let stack = ingredients.stack();
    let of =
        |provider| input(&stack, &[], |input| bake_key(&ComposeInput { provider, ..*input }, "00")).unwrap();
    let keys = [&providers::QEMU, &providers::MULTIPASS, &providers::AWS].map(of);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn values_of_one_machine_are_reported_with_their_place() {
    let of = |document: &str| {
        let ingredients = Ingredients {
            base: "00".to_owned(),
            document: None,
            script: None,
            variable: "x".to_owned(),
            packages: Vec::new(),
            users: Vec::new(),
        };
        let stack = ResolvedStack { cloud_init: Some(document.as_bytes().to_owned()), ..ingredients.stack() };
        let found = input(&stack, &[], per_machine_values).unwrap();
        found.iter().map(|found| (found.line, found.column)).collect::<Vec<_>>()
    };
    assert_eq!(of("#cloud-config\nhostname: box\n"), []);
    assert_eq!(of("## template: goloo\n#cloud-config\nfinal_message: {{ vars.value }}\n"), []);
    assert_eq!(of("## template: goloo\n#cloud-config\nruncmd:\n- echo {{ name }}\n"), [(4, 11)]);
    assert_eq!(of("## template: goloo\n#cloud-config\nfinal_message: {{ hostname }} {{ name }}\n").len(), 2);
    assert_eq!(
        of("## template: goloo\n#cloud-config\n# {% if name %}x{% endif %}\n"),
        [],
        "it is the same for all"
    );
}
