//! What top knows and shows, and how keys and news change it. Pure: what has to be done is returned as [`Effect`]s.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goloo::actions::{GuestFigures, WatchUpdate, WatchedMachine, WatchedVm};
use goloo_model::events::Event;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::LiveState;
use goloo_model::record::Record;

use super::keys::{Action, KeyContext};
use super::rows::{MachineState, OwnOperation, Row, RowOrder};
use crate::error::CliError;
use crate::output::hint;

/// News from other threads.
pub enum Message {
    /// From the watch.
    Watch(WatchUpdate),
    /// The watch can't run.
    WatchFailed(CliError),
    /// An event of an operation on this VM, or of none.
    Event(Option<VmName>, Event),
    /// An operation is over.
    Ended(VmName, Result<String, CliError>),
    /// A guest's answer.
    Guest(VmId, GuestFigures),
}

/// What a change requires.
#[derive(Debug)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Log in.
    Ssh(VmName),
    /// Follow the VM's log.
    Logs(VmName),
    /// Do this to a VM, in the background.
    Operate(Operation),
    /// Ask a guest for its figures, in the background.
    AskGuest(VmId, VmName),
    /// Ask the store and the providers now.
    Refresh,
}

/// An operation on a VM.
#[derive(Debug, Clone)]
pub enum Operation {
    Start(VmName),
    Stop(VmName),
    /// The record is what the user has agreed to delete.
    Delete(Arc<Record>),
}

impl Operation {
    pub fn vm(&self) -> &VmName {
        match self {
            Self::Start(name) | Self::Stop(name) => name,
            Self::Delete(record) => &record.name,
        }
    }

    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Delete(_) => "delete",
        }
    }
}

/// Who has the keyboard.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    #[default]
    List,
    /// The filter is being typed.
    Filter,
    Help,
    Dialog(Dialog),
}

/// A question.
#[derive(Debug, Clone)]
pub struct Dialog {
    pub lines: Vec<String>,
    /// What has to be typed for a yes; `None` if `y` is enough.
    pub words: Option<String>,
    /// What has been typed.
    pub typed: String,
    then: Agreed,
}

/// What happens after a yes.
#[derive(Debug, Clone)]
enum Agreed {
    Delete(Arc<Record>),
    Quit,
}

/// What the last line but one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub text: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    Info,
    Warning,
    Error,
}

/// How long a VM is selected before its guest is asked: scrolling asks nobody.
const SELECTED_FOR: Duration = Duration::from_secs(1);
/// The interval between questions to a guest.
const GUEST_INTERVAL: Duration = Duration::from_secs(15);

/// Guests' figures.
#[derive(Debug, Default)]
struct Guests {
    figures: HashMap<VmId, GuestFigures>,
    asked_at: HashMap<VmId, Instant>,
    /// The one that is being asked; never more than one.
    pending: Option<VmId>,
    /// Those that didn't answer. They aren't asked again until they have been off.
    silent: HashSet<VmId>,
}

#[derive(Debug)]
pub struct Model {
    vms: Vec<WatchedVm>,
    machines: HashMap<VmId, MachineState>,
    operations: BTreeMap<VmName, OwnOperation>,
    guests: Guests,
    /// Whether the store has been read.
    pub is_listed: bool,
    /// How many records can't be read.
    pub broken: usize,
    pub filter: String,
    pub order: RowOrder,
    pub mode: Mode,
    pub notice: Option<Notice>,
    selected: Option<VmId>,
    selected_since: Instant,
    /// The row of the selected VM, and where the selection goes when that VM disappears.
    position: usize,
    /// The first row shown.
    offset: usize,
    /// How many rows the screen has.
    page: usize,
    is_store_unread: bool,
}

impl Model {
    pub fn new(now: Instant) -> Self {
        Self {
            vms: Vec::new(),
            machines: HashMap::new(),
            operations: BTreeMap::new(),
            guests: Guests::default(),
            is_listed: false,
            broken: 0,
            filter: String::new(),
            order: RowOrder::default(),
            mode: Mode::List,
            notice: None,
            selected: None,
            selected_since: now,
            position: 0,
            offset: 0,
            page: 1,
            is_store_unread: false,
        }
    }

    /// The rows that the filter lets through, in order.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> =
            self.vms.iter().map(|vm| self.row(vm)).filter(|row| row.matches(&self.filter)).collect();
        self.order.sort(&mut rows);
        rows
    }

    fn row<'m>(&'m self, vm: &'m WatchedVm) -> Row<'m> {
        Row {
            vm,
            machine: self.machines.get(&vm.record.id).unwrap_or(&MachineState::Pending),
            operation: self.operations.get(&vm.record.name),
        }
    }

    /// The number of VMs, and of those that are running.
    pub fn counts(&self) -> (usize, usize) {
        (self.vms.len(), self.vms.iter().filter(|vm| self.row(vm).is_running()).count())
    }

    /// The place of the selected row, and of the first row shown.
    pub fn view(&self) -> (usize, usize) {
        (self.position, self.offset)
    }

    pub fn selected(&self) -> Option<Row<'_>> {
        let id = self.selected.as_ref()?;
        self.vms.iter().find(|vm| vm.record.id == *id).map(|vm| self.row(vm))
    }

    /// The figures of the selected VM's guest; `None` if it hasn't answered yet.
    pub fn guest(&self) -> Option<&GuestFigures> {
        self.guests.figures.get(self.selected.as_ref()?)
    }

    /// Which keys mean what now.
    pub fn key_context(&self) -> KeyContext {
        match &self.mode {
            Mode::List => KeyContext::List,
            Mode::Filter => KeyContext::Filter,
            Mode::Help => KeyContext::Help,
            Mode::Dialog(Dialog { words: Some(_), .. }) => KeyContext::Words,
            Mode::Dialog(_) => KeyContext::YesNo,
        }
    }

    /// Sets how many rows the screen has.
    pub fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.scroll(self.rows().len());
    }

    /// Takes a message.
    pub fn receive(&mut self, message: Message, now: Instant) -> Option<Effect> {
        match message {
            Message::Watch(update) => self.watched(update),
            // Ends top: see the event loop.
            Message::WatchFailed(_) => {}
            Message::Event(vm, event) => self.event(vm, event),
            Message::Ended(vm, result) => {
                self.operations.remove(&vm);
                self.notice = Some(match result {
                    Ok(done) => Notice { kind: NoticeKind::Info, text: done, hint: None },
                    Err(error) => error_notice(&error),
                });
                self.reselect(now);
                return Some(Effect::Refresh);
            }
            Message::Guest(id, figures) => {
                self.guests.pending = None;
                if matches!(figures, GuestFigures::Unknown(_)) {
                    self.guests.silent.insert(id.clone());
                }
                self.guests.figures.insert(id, figures);
            }
        }
        self.reselect(now);
        None
    }

    fn watched(&mut self, update: WatchUpdate) {
        match update {
            WatchUpdate::Listed { vms, broken } => {
                let ids: HashSet<&VmId> = vms.iter().map(|vm| &vm.record.id).collect();
                self.machines.retain(|id, _| ids.contains(id));
                self.guests.figures.retain(|id, _| ids.contains(id));
                (self.vms, self.broken, self.is_listed) = (vms, broken, true);
                if std::mem::take(&mut self.is_store_unread) {
                    self.notice = None;
                }
            }
            WatchUpdate::NotListed(error) => {
                self.is_store_unread = true;
                self.notice = Some(error_notice(&error.into()));
            }
            WatchUpdate::Observed { machines, .. } => {
                machines.into_iter().for_each(|machine| self.observed(machine));
            }
            WatchUpdate::Unanswered { vms, limit, .. } => {
                self.machines.extend(vms.into_iter().map(|id| (id, MachineState::Unanswered(limit))));
            }
        }
    }

    fn observed(&mut self, machine: WatchedMachine) {
        if machine.live.state != LiveState::Running {
            self.guests.silent.remove(&machine.vm);
            self.guests.figures.remove(&machine.vm);
        }
        self.machines.insert(machine.vm.clone(), MachineState::Known(Box::new(machine)));
    }

    fn event(&mut self, vm: Option<VmName>, event: Event) {
        let step = match event {
            Event::Step { what } => what,
            Event::WaitingForLock { .. } => "waiting for another goloo process".to_owned(),
            Event::Note(text) => return self.notify(vm, NoticeKind::Info, text),
            Event::Warning(text) => return self.notify(vm, NoticeKind::Warning, text),
            Event::Hint(words) => {
                if let Some(notice) = &mut self.notice {
                    notice.hint = Some(hint::text(&words));
                }
                return;
            }
            Event::Progress { .. } | Event::Log { .. } | Event::Ended { .. } => return,
        };
        if let Some(operation) = vm.and_then(|vm| self.operations.get_mut(&vm)) {
            operation.step = Some(step);
        }
    }

    fn notify(&mut self, vm: Option<VmName>, kind: NoticeKind, text: String) {
        let text = vm.map_or_else(|| text.clone(), |vm| format!("{vm}: {text}"));
        self.notice = Some(Notice { kind, text, hint: None });
    }

    /// Shows an error that has no operation.
    pub fn fail(&mut self, error: &CliError) {
        self.notice = Some(error_notice(error));
    }

    /// Takes a key's action.
    pub fn act(&mut self, action: Action, now: Instant) -> Option<Effect> {
        let effect = match action {
            Action::Quit => self.quit(),
            Action::Up => self.select(self.position.saturating_sub(1)),
            Action::Down => self.select(self.position + 1),
            Action::PageUp => self.select(self.position.saturating_sub(self.page)),
            Action::PageDown => self.select(self.position + self.page),
            Action::First => self.select(0),
            Action::Last => self.select(usize::MAX),
            Action::Ssh => self.selected_name().map(Effect::Ssh),
            Action::Logs => self.selected_name().map(Effect::Logs),
            Action::Start => self.selected_name().and_then(|name| self.begin(Operation::Start(name))),
            Action::Stop => self.selected_name().and_then(|name| self.begin(Operation::Stop(name))),
            Action::Delete => {
                self.ask_to_delete();
                None
            }
            Action::Filter => self.enter(Mode::Filter),
            Action::Help => self.enter(Mode::Help),
            Action::NextOrder => {
                self.order.key = self.order.key.next();
                None
            }
            Action::ReverseOrder => {
                self.order.is_reversed = !self.order.is_reversed;
                None
            }
            Action::Refresh => Some(Effect::Refresh),
            Action::Type(character) => self.edit(|text| text.push(character)),
            Action::Erase => self.edit(|text| {
                text.pop();
            }),
            Action::Submit => self.submit(),
            Action::Cancel => self.cancel(),
        };
        self.reselect(now);
        effect
    }

    fn enter(&mut self, mode: Mode) -> Option<Effect> {
        self.mode = mode;
        None
    }

    fn edit(&mut self, change: impl FnOnce(&mut String)) -> Option<Effect> {
        match &mut self.mode {
            Mode::Filter => change(&mut self.filter),
            Mode::Dialog(dialog) => change(&mut dialog.typed),
            Mode::List | Mode::Help => {}
        }
        None
    }

    fn submit(&mut self) -> Option<Effect> {
        let Mode::Dialog(dialog) = std::mem::take(&mut self.mode) else { return None };
        if dialog.words.as_ref().is_some_and(|words| *words != dialog.typed) {
            let text = "the name doesn't match; nothing was deleted".to_owned();
            self.notice = Some(Notice { kind: NoticeKind::Info, text, hint: None });
            return None;
        }
        match dialog.then {
            Agreed::Delete(record) => self.begin(Operation::Delete(record)),
            Agreed::Quit => Some(Effect::Quit),
        }
    }

    /// Leaves what has the keyboard; in the list, removes the notice and then the filter.
    fn cancel(&mut self) -> Option<Effect> {
        match std::mem::take(&mut self.mode) {
            Mode::Filter => self.filter.clear(),
            Mode::List if self.notice.take().is_none() => self.filter.clear(),
            Mode::List | Mode::Help | Mode::Dialog(_) => {}
        }
        None
    }

    /// Asks first while operations are in progress: leaving interrupts them.
    fn quit(&mut self) -> Option<Effect> {
        let is_asked = matches!(&self.mode, Mode::Dialog(Dialog { then: Agreed::Quit, .. }));
        if self.operations.is_empty() || is_asked {
            return Some(Effect::Quit);
        }
        let mut lines = vec!["These operations will be interrupted:".to_owned()];
        lines.extend(self.operations.iter().map(|(vm, operation)| format!("  {} {vm}", operation.verb)));
        lines.push("`goloo resume NAME` continues them later.".to_owned());
        lines.push("Quit?".to_owned());
        self.enter(Mode::Dialog(Dialog { lines, words: None, typed: String::new(), then: Agreed::Quit }))
    }

    fn ask_to_delete(&mut self) {
        let Some(vm) = self.selected().map(|row| row.vm.clone()) else { return };
        let record = &vm.record;
        // Others may use a machine that isn't local, as in `goloo delete`.
        let words = (!record.host_bound || vm.elsewhere.is_some()).then(|| record.name.to_string());
        let place = record.ip().map_or_else(String::new, |ip| format!(" at {ip}"));
        let lines = vec![
            "This will be deleted permanently:".to_owned(),
            format!("  {} ({}{place}) with its disk,", record.name, record.provider),
            format!("  created {}", record.created_at),
            words.as_ref().map_or_else(
                || "Delete?".to_owned(),
                |name| format!("Delete? Type {name}, then press Enter:"),
            ),
        ];
        let then = Agreed::Delete(Arc::clone(record));
        self.mode = Mode::Dialog(Dialog { lines, words, typed: String::new(), then });
    }

    /// One operation for each VM at a time: the next one would only wait for the lock.
    fn begin(&mut self, operation: Operation) -> Option<Effect> {
        let name = operation.vm().clone();
        if let Some(running) = self.operations.get(&name) {
            let text = format!("{name}: {} is still in progress", running.verb);
            self.notice = Some(Notice { kind: NoticeKind::Warning, text, hint: None });
            return None;
        }
        self.notice = None;
        self.operations.insert(name, OwnOperation { verb: operation.verb(), step: None });
        Some(Effect::Operate(operation))
    }

    /// The question that is due to the selected VM's guest.
    pub fn guest_question(&mut self, now: Instant) -> Option<Effect> {
        let (id, name) = {
            let row = self.selected().filter(Row::is_running)?;
            (row.vm.record.id.clone(), row.vm.record.name.clone())
        };
        let guests = &mut self.guests;
        let asked = guests.asked_at.get(&id).is_some_and(|asked| now.duration_since(*asked) < GUEST_INTERVAL);
        let is_due = now.duration_since(self.selected_since) >= SELECTED_FOR && !asked;
        if guests.pending.is_some() || guests.silent.contains(&id) || !is_due {
            return None;
        }
        guests.pending = Some(id.clone());
        guests.asked_at.insert(id.clone(), now);
        Some(Effect::AskGuest(id, name))
    }

    fn selected_name(&self) -> Option<VmName> {
        self.selected().map(|row| row.vm.record.name.clone())
    }

    fn select(&mut self, position: usize) -> Option<Effect> {
        self.position = position;
        self.selected = None;
        None
    }

    /// Keeps the selected VM selected wherever it moves to, and another one when it disappears.
    fn reselect(&mut self, now: Instant) {
        let ids: Vec<VmId> = self.rows().iter().map(|row| row.vm.record.id.clone()).collect();
        let place = self.selected.as_ref().and_then(|selected| ids.iter().position(|id| id == selected));
        self.position = place.unwrap_or(self.position).min(ids.len().saturating_sub(1));
        let selected = ids.get(self.position).cloned();
        if place.is_none() {
            self.selected_since = now;
        }
        self.selected = selected;
        self.scroll(ids.len());
    }

    /// Keeps the selected one of `count` rows on the screen, and no room empty below the last one.
    fn scroll(&mut self, count: usize) {
        let last = count.saturating_sub(self.page);
        self.offset =
            self.offset.clamp((self.position + 1).saturating_sub(self.page), self.position).min(last);
    }
}

fn error_notice(error: &CliError) -> Notice {
    Notice { kind: NoticeKind::Error, text: error.in_one_line(), hint: Some(error.hint.clone()) }
}
