#![allow(clippy::unwrap_used)]

use goloo_model::name::VmName;
use goloo_testkit::samples::{in_aws, name};

use super::*;
use crate::commands::top::fixtures::{
    machine, many, member, model, observe, press, record, running, seconds, selected, vm,
};

fn shown(model: &Model) -> String {
    let names: Vec<_> = model.rows().iter().map(|row| row.vm.record.name.to_string()).collect();
    names.join(" ")
}

fn notice(model: &Model) -> &str {
    model.notice.as_ref().map_or("", |notice| notice.text.as_str())
}

#[test]
fn the_selection_stays_with_its_vm_when_rows_move() {
    let (mut model, now) = model(many(5));
    press(&mut model, "j", now);
    assert_eq!(selected(&model), "vm-001");
    press(&mut model, "oo", now);
    assert_eq!(shown(&model), "vm-004 vm-003 vm-002 vm-001 vm-000", "the highest CPU usage is first");
    assert_eq!((selected(&model).as_str(), model.view().0), ("vm-001", 3));
    press(&mut model, "i", now);
    assert_eq!((selected(&model).as_str(), model.view().0), ("vm-001", 1));
}

#[test]
fn the_next_vm_is_selected_when_the_selected_one_disappears() {
    let (mut model, now) = model(running(&["a", "b", "c"]));
    press(&mut model, "j", now);
    let without = |model: &Model, gone: &str| {
        model.vms.iter().filter(|vm| vm.record.name.as_str() != gone).cloned().collect::<Vec<_>>()
    };
    for (gone, next) in [("b", "c"), ("c", "a"), ("a", "")] {
        let vms = without(&model, gone);
        model.receive(Message::Watch(WatchUpdate::Listed { vms, broken: 0 }), now);
        assert_eq!(selected(&model), next, "after {gone}");
    }
    assert!(press(&mut model, "jk\n", now).is_none(), "there is nothing to log in to");
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let (mut model, now) = model(many(300));
    for (keys, position, offset) in
        [("G", 299, 290), ("g", 0, 0), ("jjjjjjjjj", 9, 0), ("j", 10, 1), ("kkkkkkkkk", 1, 1), ("k", 0, 0)]
    {
        press(&mut model, keys, now);
        assert_eq!(model.view(), (position, offset), "{keys}");
    }
    for _ in 0..40 {
        model.act(Action::PageDown, now);
    }
    assert_eq!(model.view(), (299, 290));
    model.act(Action::PageUp, now);
    assert_eq!(model.view(), (289, 289));
    model.set_page(100);
    assert_eq!(model.view(), (289, 200), "a taller screen is filled");
    model.set_page(5);
    assert_eq!(model.view(), (289, 285));
}

/// VMs of two environments, one of them renamed, and one of none.
fn of_environments() -> (Model, Instant) {
    let records =
        [member("db", "shop", "db"), member("a", "lab", "web"), record("m"), member("z", "shop", "web")];
    model(records.into_iter().map(|record| (vm(record), None)).collect())
}

#[test]
fn vms_are_filtered_by_their_environment_and_their_machine_in_it() {
    let (mut model, now) = of_environments();
    for (filter, found) in [("shop/", "db z"), ("/web", "a z"), ("shop/web", "z"), ("LAB", "a")] {
        press(&mut model, &format!("/{filter}\n"), now);
        assert_eq!(shown(&model), found, "{filter}");
        press(&mut model, "\u{1b}", now);
    }
}

#[test]
fn vms_of_one_environment_are_together_in_the_order_of_environments() {
    let (mut model, now) = of_environments();
    press(&mut model, "ooooooo", now);
    assert_eq!(shown(&model), "a db z m");
    press(&mut model, "i", now);
    assert_eq!(shown(&model), "m db z a");
    press(&mut model, "oi", now);
    assert_eq!(shown(&model), "a db m z", "the circle ends with the name");
}

#[test]
fn the_filter_matches_every_word_in_any_column() {
    let (mut model, now) = model(many(30));
    press(&mut model, "/VM-01 stopped\n", now);
    assert_eq!(shown(&model), "vm-012 vm-015 vm-018");
    assert_eq!(selected(&model), "vm-012");
    press(&mut model, "/", now);
    model.act(Action::Erase, now);
    press(&mut model, "d team=infra\n", now);
    assert_eq!(shown(&model), "vm-012 vm-015 vm-018", "tags match too");
    press(&mut model, "\u{1b}", now);
    assert_eq!(model.rows().len(), 30);
}

#[test]
fn a_local_vm_is_deleted_after_a_y_only() {
    let (mut model, now) = model(running(&["a"]));
    for keys in ["d\n", "dn", "d\u{1b}", "dd"] {
        assert!(press(&mut model, keys, now).is_none(), "{keys:?}");
        model.mode = Mode::List;
    }
    assert!(model.operations.is_empty());
    let Some(Effect::Operate(Operation::Delete(record))) = press(&mut model, "dy", now) else {
        panic!("nothing is deleted")
    };
    assert_eq!(record.name, name("a"));
}

#[test]
fn a_vm_that_is_not_local_is_deleted_after_its_name_is_typed() {
    let (mut model, now) = model(vec![(vm(in_aws(&name("web"))), None)]);
    for keys in ["dy\n", "dwe\n", "dwebb\n"] {
        assert!(press(&mut model, keys, now).is_none(), "{keys:?}");
        assert!(notice(&model).contains("nothing was deleted"), "{keys:?}");
    }
    assert!(matches!(press(&mut model, "dweb\n", now), Some(Effect::Operate(Operation::Delete(_)))));
}

#[test]
fn the_vm_that_was_asked_about_is_deleted_even_if_the_selection_moves() {
    let (mut model, now) = model(running(&["a", "b"]));
    press(&mut model, "d", now);
    let vms = model.vms.iter().filter(|vm| vm.record.name.as_str() == "b").cloned().collect();
    model.receive(Message::Watch(WatchUpdate::Listed { vms, broken: 0 }), now);
    assert_eq!(selected(&model), "b");
    let Some(Effect::Operate(operation)) = press(&mut model, "y", now) else { panic!("nothing is deleted") };
    assert_eq!(*operation.vm(), name("a"));
}

#[test]
fn a_vm_has_one_operation_at_a_time_and_its_steps_are_shown() {
    let (mut model, now) = model(running(&["a", "b"]));
    assert!(matches!(press(&mut model, "x", now), Some(Effect::Operate(Operation::Stop(_)))));
    assert!(press(&mut model, "s", now).is_none());
    assert_eq!(notice(&model), "a: stop is still in progress");
    let event = |vm: &str, event| Message::Event(Some(VmName::parse(vm).unwrap()), event);
    model.receive(event("a", Event::Step { what: "asking the guest".to_owned() }), now);
    model.receive(event("b", Event::Step { what: "not ours".to_owned() }), now);
    let activities = |model: &Model| model.rows().iter().map(Row::activity).collect::<Vec<_>>();
    assert_eq!(activities(&model), ["stop: asking the guest", ""]);
    let ended = model.receive(Message::Ended(name("a"), Ok("a is stopped".to_owned())), now);
    assert!(matches!(ended, Some(Effect::Refresh)), "the new state is asked for at once");
    assert_eq!((activities(&model), notice(&model)), (vec![String::new(); 2], "a is stopped"));
}

#[test]
fn a_failed_operation_shows_its_error_with_the_hint() {
    let (mut model, now) = model(running(&["a"]));
    press(&mut model, "s", now);
    let error = CliError::failed("it failed", "goloo doctor").because(&std::io::Error::other("a cause"));
    model.receive(Message::Ended(name("a"), Err(error)), now);
    let shown = model.notice.clone().unwrap();
    assert_eq!((shown.kind, shown.text.as_str()), (NoticeKind::Error, "it failed: a cause"));
    assert_eq!(shown.hint.as_deref(), Some("goloo doctor"));
    press(&mut model, "\u{1b}", now);
    assert_eq!(model.notice, None);
}

#[test]
fn quitting_asks_first_while_an_operation_is_in_progress() {
    let (mut model, now) = model(running(&["a"]));
    assert!(matches!(press(&mut model, "q", now), Some(Effect::Quit)));
    press(&mut model, "x", now);
    assert!(press(&mut model, "q", now).is_none());
    assert!(press(&mut model, "n", now).is_none());
    assert!(press(&mut model, "q", now).is_none());
    assert!(matches!(press(&mut model, "y", now), Some(Effect::Quit)));
}

fn asked(effect: Option<Effect>) -> Option<String> {
    match effect? {
        Effect::AskGuest(_, name) => Some(name.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_guest_of_a_vm_that_stays_selected_is_asked_and_only_one_at_a_time() {
    let (mut model, now) = model(running(&["a", "b"]));
    assert_eq!(asked(model.guest_question(now)), None, "it was selected just now");
    press(&mut model, "j", now + seconds(2));
    assert_eq!(asked(model.guest_question(now + seconds(2))), None, "scrolling asks nobody");
    assert_eq!(asked(model.guest_question(now + seconds(4))).as_deref(), Some("b"));
    assert_eq!(asked(model.guest_question(now + seconds(60))), None, "b hasn't answered yet");
    let id = model.selected().unwrap().vm.record.id.clone();
    model.receive(Message::Guest(id, GuestFigures::Known(Default::default())), now + seconds(5));
    assert_eq!(asked(model.guest_question(now + seconds(6))), None);
    assert_eq!(asked(model.guest_question(now + seconds(30))).as_deref(), Some("b"));
}

#[test]
fn a_guest_that_does_not_answer_is_not_asked_again_until_it_has_been_off() {
    let (mut model, now) = model(running(&["a"]));
    assert!(model.guest_question(now + seconds(2)).is_some());
    let row = model.selected().unwrap();
    let (off, on) = (machine(row.vm, LiveState::Stopped), machine(row.vm, LiveState::Running));
    let id = row.vm.record.id.clone();
    model.receive(Message::Guest(id, GuestFigures::Unknown("no route".to_owned())), now + seconds(3));
    assert_eq!(asked(model.guest_question(now + seconds(600))), None);
    observe(&mut model, vec![off]);
    assert_eq!(asked(model.guest_question(now + seconds(700))), None, "it is off");
    assert_eq!(model.guest(), None);
    observe(&mut model, vec![on]);
    assert!(model.guest_question(now + seconds(800)).is_some());
}

#[test]
fn unknown_figures_are_sorted_last_and_names_break_ties() {
    let vms = ["c", "a", "b"].map(|text| vm(record(text)));
    let known = machine(&vms[2], LiveState::Running);
    let (mut model, now) = model(vms.into_iter().map(|vm| (vm, None)).collect());
    observe(&mut model, vec![known]);
    press(&mut model, "oooo", now);
    assert_eq!(shown(&model), "b a c");
}
