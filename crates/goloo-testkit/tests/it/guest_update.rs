//! What `goloo apply` changes inside a machine, run by the guest root's shell, tools and sshd.

use std::path::Path;

use goloo_cloudinit::{ComposeInput, GuestUpdate, InProcessRenderer, UsersUpdate, compose, update_script};
use goloo_model::host_key::HostKey;
use goloo_model::record::UserKeys;
use goloo_model::secret::PrivateKey;
use goloo_model::spec::{Sources, resolve};
use goloo_testkit::guest_root::{GuestRoot, Seed};

use crate::common::{IMAGES, Keys, image, login, start};

fn user(name: &str, keys: &[&Keys]) -> UserKeys {
    let keys = keys.iter().map(|keys| keys.client.clone()).collect();
    UserKeys { username: name.to_owned(), github_username: None, keys }
}

/// goloo's own key and the host key are those of `keys`.
fn user_data(keys: &Keys, users: &[UserKeys]) -> Vec<u8> {
    let names: Vec<_> = users.iter().map(|user| serde_json::json!({"username": user.username})).collect();
    let config = serde_json::json!({"vm": {"image": "debian-12", "ttl": "8h", "users": names}}).to_string();
    let sources = Sources {
        given: "box",
        as_name: None,
        stack: "box",
        folder: Path::new("/stacks/box"),
        config: config.as_bytes(),
        cloud_init: None,
        configure: None,
        home: Path::new("/home/ann"),
        sections: &[],
        auto_ports: false,
    };
    let stack = resolve(&sources).unwrap().stack;
    let host_key = HostKey::from_private(&PrivateKey::new(keys.host_private.clone())).unwrap();
    let input = ComposeInput {
        stack: &stack,
        users,
        client_key: &keys.client,
        host_key: Some(&host_key),
        provider: &goloo_testkit::providers::QEMU,
        network: None,
        renderer: &InProcessRenderer,
    };
    compose(&input).unwrap().user_data
}

/// Whether `user` gets in with the client key of `keys`; `own` has the host key.
fn gets_in(root: &GuestRoot, own: &Keys, keys: &Keys, user: &str) -> bool {
    let (identity, _) = keys.login();
    let login = goloo_testkit::guest_root::Login { identity: &identity, host_key: &own.host };
    root.login(user, login, "true").unwrap().status == Some(0)
}

fn update(root: &GuestRoot, own: &Keys, update: &GuestUpdate<'_>) -> (Option<i32>, String) {
    let script = update_script(update).replace('\'', "'\\''");
    login(root, own, "goloo", &format!("exec sudo -n /bin/sh -c '{script}'"))
}

#[test]
fn vm_users_and_their_keys_are_changed_added_and_removed_for_good() {
    for name in IMAGES {
        let (image, own, old, new) = (image(name), Keys::new(), Keys::new(), Keys::new());
        let root = start(&image);
        let users = [user("ann", &[&old]), user("bob", &[&old])];
        root.boot(&Seed {
            user_data: &user_data(&own, &users),
            meta_data: "instance-id: i-1\nlocal-hostname: box\n",
            vendor_data: None,
        })
        .unwrap();
        assert!(gets_in(&root, &own, &old, "ann") && gets_in(&root, &own, &old, "bob"), "{name}");
        // cloud-init writes it there too.
        let own_file = format!(
            "mkdir -p ~ann/.ssh && echo '{}' >> ~ann/.ssh/authorized_keys; chown -R ann: ~ann/.ssh",
            old.client
        );
        root.exec(&["sh", "-c", &own_file]).unwrap();

        let users = [user("ann", &[&new]), user("cleo", &[&new])];
        let removed = ["bob".to_owned()];
        let users =
            UsersUpdate { client_key: &own.client, login_user: "ann", users: &users, removed: &removed };
        let change =
            GuestUpdate { users: Some(users), end: Some(Some(4_102_444_800)), ..GuestUpdate::default() };
        let (status, said) = update(&root, &own, &change);
        assert_eq!(status, Some(0), "{name}: {said}");
        let is_as_wanted = |when: &str| {
            let gets_in = |keys: &Keys, user: &str| gets_in(&root, &own, keys, user);
            let all =
                [gets_in(&new, "ann"), gets_in(&new, "cleo"), gets_in(&own, "ann"), gets_in(&own, "goloo")];
            let evidence =
                "tail -n +1 /etc/ssh/goloo_keys/* /opt/goloo/users; tail -n 20 /run/goloo-harness/sshd.log";
            assert_eq!(
                all,
                [true; 4],
                "{name} {when}\n{}",
                root.exec(&["sh", "-c", evidence]).unwrap().stdout
            );
            assert!(!gets_in(&old, "ann") && !gets_in(&old, "bob") && !gets_in(&new, "bob"), "{name} {when}");
            assert_eq!(root.file("/var/lib/goloo/end").as_deref(), Some("4102444800\n"), "{name} {when}");
            assert!(root.passwd("bob").is_some_and(|line| line.contains("/home/bob")), "{name} {when}");
        };
        is_as_wanted("now");
        assert_eq!(update(&root, &own, &change).0, Some(0), "{name}: it is idempotent");
        // The user-data still has the users of before.
        root.second_boot().unwrap();
        is_as_wanted("after a reboot");

        let users = [user("bob", &[&new]), user("ann", &[&new])];
        let users = UsersUpdate { client_key: &own.client, login_user: "ann", users: &users, removed: &[] };
        let change = GuestUpdate { users: Some(users), end: Some(None), ..GuestUpdate::default() };
        let (status, said) = update(&root, &own, &change);
        assert_eq!(status, Some(0), "{name}: {said}");
        assert!(gets_in(&root, &own, &new, "bob"), "{name}: who was removed can come back");
        assert_eq!(root.file("/var/lib/goloo/end"), None, "{name}");
    }
}
