//! All kinds of documents, good and broken, as sent by goloo, run through the cloud-init and the sshd of both test
//! images: goloo gets in, the ttl is set, configure.sh ran once, and the verdict is as expected.

use crate::documents;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{IMAGES, Keys, image, login, start};
use crate::documents::Row;
use goloo_cloudinit::{ComposeInput, Composed, InProcessRenderer, compose};
use goloo_engine::{GuestReport, Verdict, report_command};
use goloo_model::guest::Output;
use goloo_model::host_key::HostKey;
use goloo_model::secret::PrivateKey;
use goloo_model::spec::{ResolvedStack, Sources, resolve};
use goloo_testkit::guest_root::{Boot, GuestImage, GuestRoot, Seed};

/// The number of tests the rows of one image are divided into.
const SLICES: usize = 4;
const TTL: u64 = 8 * 3600;

/// Documents that lock down what goloo leaves to the machine's owner, as described in docs/cloud-init.md.
const CLOSED: [&str; 3] = ["broken/nologin_file", "broken/hosts_deny", "broken/pam_denies"];

/// Whether a row is run on an image. They alternate between the two; with `GOLOO_TEST_ALL`, those that could break
/// goloo's access run on both.
fn is_played(row: &Row, index: usize, version: usize) -> bool {
    let is_risky = row.name.starts_with("broken/") || row.name.starts_with("cases/");
    let is_on_both = is_risky && std::env::var_os("GOLOO_TEST_ALL").is_some();
    !CLOSED.contains(&row.name.as_str()) && (is_on_both || index % 2 == version)
}

fn stack(document: &[u8]) -> ResolvedStack {
    let sources = Sources {
        given: "box",
        as_name: None,
        stack: "box",
        folder: Path::new("/stacks/box"),
        config: br#"{"vm": {"image": "debian-12", "ttl": "8h"}}"#,
        cloud_init: Some(document),
        configure: Some(b"#!/bin/sh\necho configured >> /var/tmp/configured\n"),
        home: Path::new("/home/ann"),
        auto_ports: false,
        sections: &[],
    };
    resolve(&sources).unwrap().stack
}

/// The user-data for the machine. A document that goloo refuses is included nevertheless, as part of a message that
/// goloo doesn't inspect: it can be just as broken on the machine.
fn composed(keys: &Keys, document: &[u8]) -> Composed {
    let host_key = HostKey::from_private(&PrivateKey::new(keys.host_private.clone())).unwrap();
    let compose = |document: &[u8]| {
        let stack = stack(document);
        compose(&ComposeInput {
            stack: &stack,
            users: &[],
            client_key: &keys.client,
            host_key: Some(&host_key),
            provider: &goloo_testkit::providers::QEMU,
            network: None,
            renderer: &InProcessRenderer,
        })
    };
    compose(document).unwrap_or_else(|_| compose(&in_message(document)).unwrap())
}

fn in_message(document: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(document);
    let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"wrapped\"\n\n--wrapped\n";
    let part = "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n";
    format!("{head}{part}{}\n--wrapped--\n", lines.join("\n")).into_bytes()
}

/// Runs one row on one image; the error describes what is wrong.
fn play(image: &GuestImage, row: &Row, expected: &str) -> Result<(), String> {
    let (root, keys) = (start(image), Keys::new());
    let composed = composed(&keys, &row.document);
    let seed = Seed {
        user_data: &composed.user_data,
        meta_data: "instance-id: i-1\nlocal-hostname: box\n",
        vendor_data: Some(b""),
    };
    let boot = root.boot(&seed).map_err(|error| error.to_string())?;
    if let Some(ended_by) = &boot.ended_by {
        // For these, goloo's message comes from the provider (`engine_wait.rs`).
        let is_right = expected == "ended";
        return if is_right { Ok(()) } else { Err(format!("{ended_by:?} ended the machine")) };
    }
    let mut problems: Vec<String> =
        [gets_in(&root, &keys), ttl_is_set(&root), was_configured(&root), no_deadlock(&root)]
            .into_iter()
            .flatten()
            .collect();
    match verdict(&root, &keys, &composed.login_user) {
        Ok(verdict) if verdict.result.as_str() == expected => {}
        Ok(verdict) => problems.push(format!("{expected} is expected, and goloo says {verdict:#?}")),
        Err(problem) => problems.push(problem),
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("{}\n{}", problems.join("\n"), evidence(&root, &boot)))
    }
}

fn gets_in(root: &GuestRoot, keys: &Keys) -> Option<String> {
    let done = login(root, keys, "goloo", "PATH=/usr/bin; id -un; sudo -n id -un");
    let is_right = done.0 == Some(0) && done.1.contains("goloo\n") && done.1.contains("root\n");
    (!is_right).then(|| format!("goloo doesn't get in: {done:?}"))
}

fn ttl_is_set(root: &GuestRoot) -> Option<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let end = root.file("/var/lib/goloo/end").and_then(|text| text.trim().parse::<u64>().ok());
    let in_time = end.is_some_and(|end| (now + TTL - 600..=now + TTL).contains(&end));
    let is_armed = root.calls().iter().any(|call| call.arguments.contains(&"goloo-end.service".to_owned()));
    (!in_time || !is_armed).then(|| format!("the ttl isn't set: {end:?}, {:?}", root.calls()))
}

fn was_configured(root: &GuestRoot) -> Option<String> {
    let ran = root.file("/var/tmp/configured");
    (ran.as_deref() != Some("configured\n")).then(|| format!("configure.sh didn't run once: {ran:?}"))
}

fn no_deadlock(root: &GuestRoot) -> Option<String> {
    let calls = root.calls();
    let deadlock = calls.iter().find(|call| call.program == "deadlock")?;
    Some(format!("would wait for ever: {:?}", deadlock.arguments))
}

/// goloo's verdict, from the report it requests over SSH.
pub fn verdict(root: &GuestRoot, keys: &Keys, login_user: &str) -> Result<Verdict, String> {
    let script = report_command(false, login_user);
    let command = format!("exec /bin/sh -c {}", shlex::try_quote(&script).unwrap());
    let (identity, host_key) = keys.login();
    let login = goloo_testkit::guest_root::Login { identity: &identity, host_key };
    let done = root.login("goloo", login, &command).map_err(|error| error.to_string())?;
    let mut report = GuestReport::default();
    for line in done.stdout.lines() {
        report.take(line);
    }
    let status = done.status.ok_or("the report never ends")?;
    Ok(report.verdict(&Output { status, stdout: done.stdout.clone(), stderr: done.stderr }))
}

/// The end of the output of cloud-init and sshd.
fn evidence(root: &GuestRoot, boot: &Boot) -> String {
    let end = |path: &str, lines: usize| {
        let text = root.file(path).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        format!("--- end of {path}\n{}\n", all[all.len().saturating_sub(lines)..].join("\n"))
    };
    let stages: Vec<_> = boot.stages.iter().map(|stage| (stage.name, stage.status)).collect();
    format!(
        "stages {stages:?}, sshd started: {:?}\n{}{}",
        boot.sshd_started,
        end("/var/log/cloud-init.log", 40),
        end("/run/goloo-harness/sshd.log", 10)
    )
}

/// One slice of the rows on one image.
fn play_slice(version: usize, slice: usize) {
    let image_name = IMAGES[version];
    let image = image(image_name);
    let only = std::env::var("GOLOO_TEST_ROW").ok();
    let mut failures = Vec::new();
    for (index, row) in documents::rows().iter().enumerate() {
        let is_wanted = only.as_ref().is_none_or(|only| row.name.contains(only.as_str()));
        if index / 2 % SLICES != slice || !is_wanted || !is_played(row, index, version) {
            continue;
        }
        let begun = std::time::Instant::now();
        let played = play(&image, row, &row.expected[version]);
        let time: Duration = begun.elapsed();
        eprintln!("{image_name} {} {:.1} s", row.name, time.as_secs_f64());
        if let Err(problem) = played {
            failures.push(format!("== {} on {image_name}: {problem}", row.name));
        }
    }
    assert!(failures.is_empty(), "{} rows failed\n{}", failures.len(), failures.join("\n"));
}

macro_rules! slices {
    ($($name:ident: $image:expr, $slice:expr;)*) => {
        $(#[test]
        fn $name() {
            play_slice($image, $slice);
        })*
    };
}

slices! {
    vm_documents_on_debian_12_part_1: 0, 0;
    vm_documents_on_debian_12_part_2: 0, 1;
    vm_documents_on_debian_12_part_3: 0, 2;
    vm_documents_on_debian_12_part_4: 0, 3;
    vm_documents_on_debian_13_part_1: 1, 0;
    vm_documents_on_debian_13_part_2: 1, 1;
    vm_documents_on_debian_13_part_3: 1, 2;
    vm_documents_on_debian_13_part_4: 1, 3;
}

/// Checks that there are enough rows, and some of each kind.
#[test]
fn the_table_has_rows_of_every_kind() {
    let rows = documents::rows();
    for (version, image) in IMAGES.iter().enumerate() {
        let played = rows.iter().enumerate().filter(|(index, row)| is_played(row, *index, version)).count();
        assert!(played >= 110, "{played} on {image}");
    }
    for group in ["cases/", "corpus/", "examples/", "templates/", "broken/"] {
        assert!(rows.iter().any(|row| row.name.starts_with(group)), "{group}");
    }
    for verdict in ["done", "done-with-warnings", "failed", "dropped", "ended"] {
        assert!(rows.iter().any(|row| row.expected.contains(&verdict.to_owned())), "{verdict}");
    }
}
