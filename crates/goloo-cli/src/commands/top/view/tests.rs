#![allow(clippy::unwrap_used)]

use std::time::Instant;

use goloo::actions::{OperationState, WatchUpdate, WatchedMachine, WatchedOperation, WatchedVm};
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::printable::is_printable;
use goloo_model::provider::Observation;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForeignOwner, OperationKind, Record};
use goloo_model::usage::GuestUsage;
use goloo_testkit::samples::{in_aws, name, owner, time};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::commands::top::fixtures::{
    GIB, machine, many, member, model, observe, press, record, running, seconds, vm,
};
use crate::commands::top::model::{Effect, Message};
use crate::error::CliError;

/// The picture as text; `▶` marks lines in reverse video.
fn picture(model: &mut Model, width: u16, height: u16) -> String {
    picture_in(Charset::Utf8, model, width, height)
}

fn picture_in(charset: Charset, model: &mut Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    model.set_page(page(Rect::new(0, 0, width, height), model));
    let now = time("2025-01-15T13:30:00Z");
    terminal.draw(|frame| draw(frame, model, Theme { color: false, charset }, now)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width)).map(|cells| {
        let is_selected = cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED));
        let text: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}{}", if is_selected { '▶' } else { ' ' }, text.trim_end())
    });
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// VMs in all states.
fn varied() -> Model {
    let now = Instant::now();
    let expiring = Record { ends_at: Some(time("2025-01-15T14:15:00Z")), ..record("web-1") };
    let long = record("a-name-that-is-as-long-as-names-of-virtual-machines-may-be");
    let vms = vec![
        vm(expiring),
        vm(record("db")),
        WatchedVm {
            operation: Some(WatchedOperation {
                kind: OperationKind::Create,
                state: OperationState::Interrupted,
            }),
            ..vm(record("half-made"))
        },
        WatchedVm {
            operation: Some(WatchedOperation {
                kind: OperationKind::Start,
                state: OperationState::InProgress(Some(owner(7))),
            }),
            ..vm(record("starting"))
        },
        WatchedVm {
            elsewhere: Some(ForeignOwner::Host { host: "desk".into() }),
            ..vm(record("on-another-host"))
        },
        vm(long),
        vm(in_aws(&name("prod"))),
        vm(record("odd")),
    ];
    let machines = vec![
        machine(&vms[0], LiveState::Running),
        machine(&vms[1], LiveState::Stopped),
        machine(&vms[2], LiveState::Missing),
        machine(&vms[5], LiveState::Running),
        WatchedMachine {
            live: Observation {
                hint: NextStep::force_stop(&name("odd")).text(" powers it off"),
                ..Observation::unknown("QEMU doesn't answer on its control socket within 3000 ms")
            },
            ..machine(&vms[7], LiveState::Unknown)
        },
    ];
    let unanswered = vec![vms[6].record.id.clone()];
    let (mut model, _) = model(vms.into_iter().map(|vm| (vm, None)).collect());
    observe(&mut model, machines);
    let (provider, limit) = (ProviderId::known("aws"), seconds(10));
    model.receive(Message::Watch(WatchUpdate::Unanswered { provider, vms: unanswered, limit }), now);
    model
}

#[test]
fn no_vms() {
    let mut empty = model(Vec::new()).0;
    insta::assert_snapshot!("no_vms_80x24", picture(&mut empty, 80, 24));
    let mut unread = Model::new(Instant::now());
    let shown = picture(&mut unread, 80, 24);
    assert!(shown.contains("reading the records") && !shown.contains("goloo create"), "{shown}");
}

#[test]
fn one_vm_with_its_guest() {
    let (mut model, now) = model(running(&["web"]));
    let Some(Effect::AskGuest(id, _)) = model.guest_question(now + seconds(2)) else { panic!("not asked") };
    let usage = GuestUsage {
        memory: Some(Share { used: GIB / 4, total: 2 * GIB }),
        disk: Some(Share { used: GIB, total: 20 * GIB }),
        load: Some([0.1, 0.05, 0.01]),
    };
    model.receive(Message::Guest(id, GuestFigures::Known(usage)), now);
    insta::assert_snapshot!("one_vm_80x24", picture(&mut model, 80, 24));
    insta::assert_snapshot!("one_vm_120x40", picture(&mut model, 120, 40));
}

#[test]
fn all_states() {
    let mut model = varied();
    press(&mut model, "G", Instant::now());
    press(&mut model, "kkk", Instant::now());
    insta::assert_snapshot!("all_states_80x24", picture(&mut model, 80, 24));
    insta::assert_snapshot!("all_states_120x40", picture(&mut model, 120, 40));
    insta::assert_snapshot!("all_states_40x12", picture(&mut model, 40, 12));
}

#[test]
fn environments_have_a_column_if_a_vm_belongs_to_one() {
    let member = vm(member("shop-db", "shop", "db"));
    let (mut with, _) = model(vec![(vm(record("alone")), None), (member, None)]);
    press(&mut with, "j", Instant::now());
    let shown = picture(&mut with, 120, 24);
    let row = |name: &str| {
        shown
            .lines()
            .find(|line| line.split_whitespace().any(|word| word.trim_start_matches('▶') == name))
            .unwrap()
            .to_owned()
    };
    let cells = |line: String| line.split_whitespace().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(cells(row("NAME")), ["ENVIRONMENT", "PROVIDER"], "{shown}");
    assert_eq!(
        (cells(row("shop-db")), cells(row("alone"))[0].as_str()),
        (vec!["shop".into(), "qemu".into()], "qemu")
    );
    assert!(
        shown.contains("shop-db  not asked yet  qemu  ") && shown.contains("  shop/db  stack"),
        "{shown}"
    );
    let mut without = model(running(&["alone"])).0;
    assert!(!picture(&mut without, 120, 24).contains("ENVIRONMENT"));
}

#[test]
fn hundreds_of_vms() {
    let (mut model, now) = model(many(300));
    picture(&mut model, 80, 24);
    for _ in 0..5 {
        model.act(crate::commands::top::keys::Action::PageDown, now);
    }
    insta::assert_snapshot!("hundreds_of_vms_80x24", picture(&mut model, 80, 24));
    insta::assert_snapshot!("hundreds_of_vms_120x40", picture(&mut model, 120, 40));
}

#[test]
fn a_filter_is_typed() {
    let (mut model, now) = model(many(300));
    press(&mut model, "/vm-1 stop", now);
    insta::assert_snapshot!("filter_80x24", picture(&mut model, 80, 24));
    press(&mut model, "zzz", now);
    assert!(picture(&mut model, 80, 24).contains("no VMs match the filter"));
}

#[test]
fn questions() {
    let (mut local, now) = model(running(&["web"]));
    press(&mut local, "d", now);
    insta::assert_snapshot!("delete_local_80x24", picture(&mut local, 80, 24));
    let mut remote = model(vec![(vm(in_aws(&name("prod"))), None)]).0;
    press(&mut remote, "dpr", now);
    insta::assert_snapshot!("delete_in_aws_80x24", picture(&mut remote, 80, 24));
    press(&mut local, "nxq", now);
    insta::assert_snapshot!("quit_80x24", picture(&mut local, 80, 24));
}

#[test]
fn help() {
    let mut model = model(running(&["web"])).0;
    press(&mut model, "?", Instant::now());
    insta::assert_snapshot!("help_80x24", picture(&mut model, 80, 24));
}

#[test]
fn an_error_is_wrapped_with_its_hint_below() {
    let (mut model, now) = model(running(&["web"]));
    press(&mut model, "s", now);
    let message = "the machine of \"web\" can't be started because something that takes many words to explain is missing";
    let error =
        CliError::failed(message, "sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils");
    model.receive(Message::Ended(name("web"), Err(error)), now);
    insta::assert_snapshot!("error_80x24", picture(&mut model, 80, 24));
}

#[test]
fn without_utf_8_the_picture_is_ascii_and_has_the_same_layout() {
    let mut states = [varied(), model(running(&["web"])).0, model(running(&["web"])).0];
    states[0].fail(&CliError::failed("an error ".repeat(40), "a hint ".repeat(40)));
    press(&mut states[1], "?", Instant::now());
    press(&mut states[2], "d", Instant::now());
    for model in &mut states {
        for (width, height) in [(20, 8), (40, 12), (80, 24), (120, 40)] {
            let plain = picture_in(Charset::Ascii, model, width, height).replace('▶', " ");
            assert!(plain.is_ascii(), "{plain}");
        }
    }
    for model in &mut states[1..] {
        let shown = picture(model, 80, 24);
        let as_plain = shown.replace(['–', '─'], "-").replace('│', "|").replace(['┌', '┐', '└', '┘'], "+");
        assert_eq!(picture_in(Charset::Ascii, model, 80, 24), as_plain);
    }
}

#[test]
fn nothing_overflows_on_a_terminal_of_any_size() {
    let mut states = [varied(), model(many(300)).0, varied(), varied()];
    press(&mut states[2], "?", Instant::now());
    press(&mut states[3], "d", Instant::now());
    for model in &mut states {
        model.fail(&CliError::failed("an error ".repeat(40), "a hint ".repeat(40)));
        for width in (1..30).chain([79, 80, 200]) {
            for height in (1..16).chain([24, 60]) {
                picture(model, width, height);
            }
        }
    }
}

#[test]
fn text_of_others_reaches_the_terminal_escaped() {
    let hostile = "x\u{1b}]0;PWN\u{7}\u{1b}[2J\u{9b}31m\r\nfake\u{202e}\u{2066}\u{200b}日本";
    let mut record = record("web");
    record.stack = hostile.into();
    record.tags.insert(hostile.to_owned(), hostile.to_owned());
    let vm = vm(record);
    let machine = WatchedMachine {
        live: Observation { reason: Some(hostile.to_owned()), ..Observation::of(LiveState::Running) },
        ..machine(&vm, LiveState::Running)
    };
    let (mut model, now) = model(vec![(vm, Some(machine))]);
    let Some(Effect::AskGuest(id, _)) = model.guest_question(now + seconds(2)) else { panic!("not asked") };
    model.receive(Message::Guest(id, GuestFigures::Unknown(hostile.to_owned())), now);
    press(&mut model, "x", now);
    model.receive(Message::Event(Some(name("web")), Event::Step { what: hostile.to_owned() }), now);
    let mut seen = String::new();
    for open in ["", "d", "/"] {
        press(&mut model, open, now);
        if open == "/" {
            model.filter = hostile.to_owned();
        }
        model.receive(Message::Event(Some(name("web")), Event::Warning(hostile.to_owned())), now);
        for width in [40, 80, 300] {
            let shown = picture(&mut model, width, 24);
            assert!(shown.chars().all(|c| is_printable(c) || c == '\n'), "{shown:?}");
            // The drawing library leaves out what it can't draw: what it was given was escaped before. A stack's name in
            // a record can't contain such characters at all.
            let escaped: usize =
                [r"\x1b]0;PWN", "\u{fffd}]0;PWN"].map(|text| shown.matches(text).count()).iter().sum();
            assert_eq!(shown.matches("]0;PWN").count(), escaped, "{shown}");
            seen += &shown;
        }
        press(&mut model, "\u{1b}", now);
    }
    assert!(seen.contains(r"\x1b]0;PWN\x07"), "{seen}");
}

#[test]
fn sizes_have_at_most_five_characters() {
    for (bytes, expected) in [
        (0, "0.0K"),
        (512 << 10, "512K"),
        (1023 << 10, "1.0M"),
        (312 << 20, "312M"),
        (1_181_116_006, "1.1G"),
        (20 * GIB, "20G"),
        (3 << 40, "3.0T"),
        (u64::MAX, "16384P"),
    ] {
        assert_eq!(size(bytes), expected);
    }
}

#[test]
fn text_is_wrapped_between_words() {
    assert_eq!(wrapped("one two three", 7, 9), ["one two", "three"]);
    assert_eq!(wrapped("onetwothree four", 6, 9), ["onetwo", "three", "four"]);
    assert_eq!(wrapped("one two three four", 7, 2), ["one two", "three four"]);
    assert_eq!(wrapped("日本日本", 5, 9), ["日本", "日本"]);
    assert_eq!(wrapped("", 5, 9), [""; 0]);
}
