//! Makes a machine that continues from saved memory one of its own, without a boot.

use goloo_model::name::{VmId, VmName};
use goloo_model::provider::MemoryTemplate;
use goloo_model::spec::Diagnostic;
use goloo_model::time::Timestamp;

use super::document::Kind;
use super::identity::wrapped;
use super::script::{base64, squeezed};
use super::tree::{Content, Document, Node};
use crate::diagnostic::{diagnostic, diagnostic_at};

const OWN_IDENTITY: &str = include_str!("guest/own-identity.sh");
const GROW: &str = include_str!("guest/grow.sh");

const WAY_OUT: &str = "bake without --memory: each VM boots, and cloud-init does this for it";

/// The script for the VM with this id and name; [`own_identity_input`] is its standard input. It prints what failed, one
/// line each.
pub fn own_identity_script(id: &VmId, name: &VmName, template: &MemoryTemplate) -> String {
    let now = Timestamp::now().unix();
    let MemoryTemplate { id: old_id, name: old_name, host_key: _ } = template;
    // Its last line grows the file system at once.
    let grow = GROW.rsplit_once("\ngrow_root").map_or(GROW, |(function, _)| function);
    format!(
        "now={now} instance={id} name={name} old_instance={old_id} old_name={old_name}\n{}{}",
        squeezed(grow),
        squeezed(OWN_IDENTITY)
    )
}

/// What is secret: the machine's keys, in a script ([`Composed::identity`](crate::Composed::identity)), and the user-data,
/// which cloud-init's commands read.
pub fn own_identity_input(identity: &str, user_data: &[u8]) -> String {
    let encoded = wrapped(&base64(user_data));
    let keep = "umask 077\nbase64 -d >/var/lib/cloud/instance/user-data.txt";
    format!("{keep} <<'GOLOO'\n{encoded}\nGOLOO\n{identity}")
}

/// What cloud-init does in each machine at its first boot and goloo can't do in its place: a machine with such a
/// document can't continue from the memory of another one.
pub(super) fn needs_a_boot(text: &str) -> Vec<Diagnostic> {
    let plain = |text: &str| Document::read(text).map(|document| in_cloud_config(text, &document));
    match Kind::of(text) {
        Ok(Kind::CloudConfig) => plain(text).unwrap_or_else(|problem| vec![problem]),
        Ok(Kind::Other("text/x-shellscript" | "text/cloud-boothook")) => Vec::new(),
        Ok(_) => {
            let what = "cloud-init reads this kind of document in the machine, so it isn't known what it does at the first boot";
            vec![diagnostic(1, 1, what, WAY_OUT)]
        }
        Err(problem) => vec![problem],
    }
}

fn in_cloud_config(text: &str, document: &Document) -> Vec<Diagnostic> {
    let Some(root) = document.root.as_ref() else { return Vec::new() };
    let at = |node: &Node, what: String| diagnostic_at(text, node.start, what, WAY_OUT);
    let mut found = Vec::new();
    for (key, value) in root.pairs() {
        let Some(name) = key.text() else { continue };
        let value = document.resolved(value);
        match name {
            "phone_home" | "power_state" if !value.is_null() => {
                found.push(at(key, format!("{name} happens at the end of a boot")));
            }
            "password" if value.text().is_some_and(is_random) => found.push(random(&at, key)),
            "chpasswd" if has_random(document, value) => found.push(random(&at, key)),
            _ => {}
        }
    }
    found
}

fn random(at: &impl Fn(&Node, String) -> Diagnostic, key: &Node) -> Diagnostic {
    at(key, "cloud-init chooses a random password at the first boot".to_owned())
}

fn is_random(password: &str) -> bool {
    matches!(password.trim(), "R" | "RANDOM")
}

/// In each form of the module: `users` with `type: RANDOM`, and `list`, a text or a list of `name:RANDOM`.
fn has_random(document: &Document, value: &Node) -> bool {
    let entries = |name: &str| {
        let node = document.get(value, name)?;
        Some(if let Content::List(list) = &node.content {
            list.as_slice()
        } else {
            std::slice::from_ref(node)
        })
    };
    let by_type = |user: &Node| {
        document.get(document.resolved(user), "type").and_then(Node::text).is_some_and(is_random)
    };
    let by_line = |node: &Node| {
        let lines = document.resolved(node).text().unwrap_or_default();
        lines.lines().filter_map(|line| line.split_once(':')).any(|(_, password)| is_random(password))
    };
    entries("users").is_some_and(|users| users.iter().any(by_type))
        || entries("list").is_some_and(|list| list.iter().any(by_line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        needs_a_boot(text).iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn what_only_a_boot_does_is_found_with_its_line() {
        for (document, line) in [
            ("#cloud-config\nphone_home: {url: x}\n", 2),
            ("#cloud-config\nruncmd: [a]\npower_state: {mode: reboot}\n", 3),
            ("#cloud-config\npassword: R\n", 2),
            ("#cloud-config\nchpasswd:\n  users:\n    - {name: ann, type: RANDOM}\n", 2),
            ("#cloud-config\nchpasswd:\n  list: |\n    bob:x\n    ann:RANDOM\n", 2),
            ("#cloud-config\nchpasswd:\n  list: ['ann:R']\n", 2),
            ("#cloud-config\na: &u\n  - {name: ann, type: RANDOM}\nchpasswd: {users: *u}\n", 4),
            ("## template: jinja\n#cloud-config\n{}\n", 1),
            ("#include\nhttps://example.com\n", 1),
        ] {
            assert_eq!(lines(document), [line], "{document}");
        }
    }

    #[test]
    fn other_documents_need_no_boot() {
        for document in [
            "#cloud-config\n",
            "#cloud-config\nruncmd: [phone_home]\nphone_home:\n",
            "#cloud-config\npassword: RANDOMLY\nchpasswd: {expire: false, list: 'ann:secret'}\n",
            "#cloud-config\nchpasswd: {users: [{name: ann, password: R, type: text}]}\n",
            "#!/bin/sh\nexit\n",
        ] {
            assert_eq!(lines(document), [0; 0], "{document}");
        }
    }
}
