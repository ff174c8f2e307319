//! Draws a [`Model`]. Pure: the same model and time give the same picture.
//!
//! All text goes through [`Canvas::put`], which escapes it.

#[cfg(test)]
mod tests;

use goloo::actions::GuestFigures;
use goloo_model::provider::LiveState;
use goloo_model::record::Membership;
use goloo_model::time::Timestamp;
use goloo_model::usage::Share;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::columns::{Column, fit};
use super::keys::HELP;
use super::model::{Dialog, Mode, Model, NoticeKind};
use super::rows::{MachineState, Row};
use crate::commands::listing::tags;
use crate::output::{Charset, Frame, Mark, age, hint, one_line};

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Whether colours are used. Everything can be told apart without them.
    pub color: bool,
    pub charset: Charset,
}

impl Theme {
    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn state(self, row: &Row<'_>) -> Style {
        match row.known().map(|machine| machine.live.state) {
            Some(LiveState::Running) => self.colored(Color::Green),
            Some(LiveState::Stopped | LiveState::Suspended) => Style::new().add_modifier(Modifier::DIM),
            Some(LiveState::Missing) => self.colored(Color::Red),
            Some(LiveState::Unknown) | None => self.colored(Color::Yellow),
        }
    }

    /// What isn't known.
    fn unknown(self) -> &'static str {
        Mark::Absent.text(self.charset)
    }

    fn notice(self, kind: NoticeKind) -> Style {
        match kind {
            NoticeKind::Info => Style::new(),
            NoticeKind::Warning => self.colored(Color::Yellow),
            NoticeKind::Error => self.colored(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The lines below the list: details, notice, keys.
const DETAIL_LINES: u16 = 2;
const NOTICE_LINES: u16 = 4;

/// Where everything is.
struct Areas {
    header: Rect,
    headings: Rect,
    rows: Rect,
    detail: Rect,
    notice: Rect,
    keys: Rect,
}

impl Areas {
    /// A terminal too low for all has at least one row of the list.
    fn of(area: Rect, model: &Model) -> Self {
        let mut top = area.y;
        let mut left = area.height;
        let mut take = |wanted: u16| {
            let height = wanted.min(left);
            let taken = Rect { y: top, height, ..area };
            top += height;
            left -= height;
            taken
        };
        let notice = notice_lines(model, area.width).len() as u16;
        let fixed = [1, 1, notice, DETAIL_LINES, 1];
        let spare = area.height.saturating_sub(1);
        // The last ones are left out first.
        let mut used = 0;
        let [header, headings, notice, detail, keys] = fixed.map(|wanted: u16| {
            let height = if used + wanted <= spare { wanted } else { 0 };
            used += height;
            height
        });
        Self {
            header: take(header),
            headings: take(headings),
            rows: take(area.height.saturating_sub(used)),
            detail: take(detail),
            notice: take(notice),
            keys: take(keys),
        }
    }
}

/// How many rows of the list a terminal of this size shows.
pub fn page(area: Rect, model: &Model) -> usize {
    usize::from(Areas::of(area, model).rows.height)
}

/// Draws everything.
pub fn draw(frame: &mut ratatui::Frame<'_>, model: &Model, theme: Theme, now: Timestamp) {
    let screen = frame.area();
    let areas = Areas::of(screen, model);
    let rows = model.rows();
    let mut canvas = Canvas { buffer: frame.buffer_mut(), theme };
    header(&mut canvas, areas.header, model, rows.len());
    list(&mut canvas, &areas, model, &rows, now);
    detail(&mut canvas, areas.detail, model);
    notice(&mut canvas, areas.notice, model);
    keys(&mut canvas, areas.keys, model);
    match &model.mode {
        Mode::List => {}
        Mode::Filter => {
            let typed = one_line(&model.filter).width() as u16 + 1;
            if areas.keys.height > 0 {
                let x = areas.keys.x + typed.min(areas.keys.width.saturating_sub(1));
                frame.set_cursor_position((x, areas.keys.y));
            }
        }
        Mode::Help => {
            let width = HELP.iter().map(|(keys, _)| keys.width()).max().unwrap_or_default();
            let line = |(keys, what): &(&str, &str)| format!("{keys}{} {what}", blanks(width - keys.width()));
            popup(&mut canvas, screen, &HELP.iter().map(line).collect::<Vec<_>>());
        }
        Mode::Dialog(dialog) => ask(&mut canvas, screen, dialog),
    }
}

fn header(canvas: &mut Canvas<'_>, area: Rect, model: &Model, shown: usize) {
    let (all, running) = model.counts();
    let vms = if all == 1 { "1 VM".to_owned() } else { format!("{all} VMs") };
    let mut parts = vec![format!("goloo top  {vms}, {running} running")];
    if !model.filter.is_empty() {
        parts.push(format!("filter: {} ({shown} shown)", model.filter));
    }
    let direction = if model.order.is_reversed { ", reversed" } else { "" };
    parts.push(format!("sort: {}{direction}", model.order.key.as_str()));
    match model.broken {
        0 => {}
        1 => parts.push("1 broken record (goloo doctor)".to_owned()),
        broken => parts.push(format!("{broken} broken records (goloo doctor)")),
    }
    canvas.line(area, 0, &parts.join("  "), BOLD);
}

fn list(canvas: &mut Canvas<'_>, areas: &Areas, model: &Model, rows: &[Row<'_>], now: Timestamp) {
    let theme = canvas.theme;
    let longest = rows.iter().map(|row| row.vm.record.name.as_str().len()).max().unwrap_or_default();
    let has_environments = rows.iter().any(|row| row.membership().is_some());
    let columns = fit(usize::from(areas.rows.width), longest, has_environments);
    let headings: Vec<_> = columns.iter().map(|(column, _)| (column.heading().to_owned(), DIM)).collect();
    canvas.cells(areas.headings, 0, &columns, &headings);
    let (selected, offset) = model.view();
    for (line, row) in rows.iter().skip(offset).take(usize::from(areas.rows.height)).enumerate() {
        let cells = columns
            .iter()
            .map(|(column, _)| (cell(*column, row, theme, now), style(*column, row, theme)))
            .collect::<Vec<_>>();
        canvas.cells(areas.rows, line, &columns, &cells);
        if offset + line == selected {
            canvas
                .buffer
                .set_style(Rect { y: areas.rows.y + line as u16, height: 1, ..areas.rows }, SELECTED);
        }
    }
    if rows.is_empty() {
        let text = match (model.is_listed, model.filter.is_empty()) {
            (false, _) => "reading the records",
            (true, true) => "no VMs; run `goloo create NAME` to create one",
            (true, false) => "no VMs match the filter",
        };
        canvas.line(areas.rows, 0, text, DIM);
    }
}

fn style(column: Column, row: &Row<'_>, theme: Theme) -> Style {
    match column {
        Column::State => theme.state(row),
        _ => Style::new(),
    }
}

fn cell(column: Column, row: &Row<'_>, theme: Theme, now: Timestamp) -> String {
    let unknown = || theme.unknown().to_owned();
    let record = &row.vm.record;
    let usage = row.known().map(|machine| machine.usage).unwrap_or_default();
    let of = |used: Option<u64>, whole: Option<u64>| match (used, whole) {
        (None, _) => unknown(),
        (Some(used), None) => size(used),
        (Some(used), Some(whole)) => format!("{}/{}", size(used), size(whole)),
    };
    let resolved = record.resolved.as_ref();
    match column {
        Column::Name => record.name.to_string(),
        Column::Environment => {
            row.membership().map(|member| member.environment.to_string()).unwrap_or_default()
        }
        Column::Provider => record.provider.to_string(),
        Column::State => row.state().to_owned(),
        Column::Cpu => row
            .known()
            .and_then(|machine| machine.cpus)
            .map_or_else(unknown, |cpus| format!("{:.0}%", cpus * 100.0)),
        Column::Memory => of(usage.memory, resolved.map(|stack| stack.memory)),
        Column::Disk => of(usage.disk, resolved.map(|stack| stack.disk)),
        Column::Age => age(now.since(record.created_at)),
        Column::Ttl => match record.ends_at {
            None => unknown(),
            Some(end) if end <= now => "expired".to_owned(),
            Some(end) => age(end.since(now)),
        },
        Column::Activity => row.activity(),
    }
}

/// A number of bytes in at most five characters: `312M`, `1.1G`.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64 / 1024.0;
    for unit in ["K", "M", "G", "T"] {
        if amount < 9.95 {
            return format!("{amount:.1}{unit}");
        }
        if amount < 999.5 {
            return format!("{amount:.0}{unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.0}P")
}

fn detail(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let Some(row) = model.selected() else { return };
    let record = &row.vm.record;
    let mut parts = vec![record.name.to_string(), state(&row), row.activity(), record.provider.to_string()];
    parts.retain(|part| !part.is_empty());
    match (record.ip(), record.ssh_port()) {
        (Some(ip), Some(port)) => parts.push(format!("{ip}:{port}")),
        (ip, _) => parts.extend(ip.map(str::to_owned)),
    }
    parts.extend(row.membership().map(Membership::path));
    parts.push(format!("stack {}", record.stack));
    if !record.tags.is_empty() {
        parts.push(tags(record.tags.iter()));
    }
    canvas.line(area, 0, &parts.join("  "), Style::new());
    if row.is_running() {
        let figures = guest(model.guest(), canvas.theme);
        canvas.line(area, 1, &format!("guest  {figures}"), DIM);
    }
}

/// The state, and why it is what it is.
fn state(row: &Row<'_>) -> String {
    match (row.machine, &row.vm.elsewhere) {
        (_, Some(owner)) => format!("it belongs to {owner}"),
        (MachineState::Known(machine), None) => match hint::reason(&machine.live) {
            Some(reason) => format!("{}: {reason}", machine.live.state),
            None => machine.live.state.to_string(),
        },
        (MachineState::Pending, None) => "not asked yet".to_owned(),
        (MachineState::Unanswered(limit), None) => {
            format!("{} doesn't answer within {} s", row.vm.record.provider, limit.as_secs())
        }
    }
}

fn guest(figures: Option<&GuestFigures>, theme: Theme) -> String {
    let unknown = theme.unknown();
    let usage = match figures {
        None => return "not asked yet".to_owned(),
        Some(GuestFigures::Unknown(reason)) => return format!("{unknown} ({reason})"),
        Some(GuestFigures::Known(usage)) => usage,
    };
    let share = |what: &str, share: Option<Share>| match share {
        Some(Share { used, total }) => format!("{what} {} of {}", size(used), size(total)),
        None => format!("{what} {unknown}"),
    };
    let load = match usage.load {
        Some([one, five, fifteen]) => format!("load {one:.2} {five:.2} {fifteen:.2}"),
        None => format!("load {unknown}"),
    };
    [share("memory", usage.memory), share("disk", usage.disk), load].join("  ")
}

/// The notice and its hint, wrapped.
fn notice_lines(model: &Model, width: u16) -> Vec<(String, Option<NoticeKind>)> {
    let Some(notice) = &model.notice else { return Vec::new() };
    let prefix = match notice.kind {
        NoticeKind::Info => "",
        NoticeKind::Warning => "warning: ",
        NoticeKind::Error => "error: ",
    };
    let most = usize::from(NOTICE_LINES) - usize::from(notice.hint.is_some());
    let text = wrapped(&format!("{prefix}{}", notice.text), usize::from(width), most);
    let mut lines: Vec<_> = text.into_iter().map(|line| (line, Some(notice.kind))).collect();
    if let Some(hint) = &notice.hint {
        let hint =
            wrapped(&format!("hint: {hint}"), usize::from(width), usize::from(NOTICE_LINES) - lines.len());
        lines.extend(hint.into_iter().map(|line| (line, None)));
    }
    lines
}

fn notice(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let theme = canvas.theme;
    for (place, (line, kind)) in notice_lines(model, area.width).iter().enumerate() {
        canvas.line(area, place, line, kind.map_or(BOLD, |kind| theme.notice(kind)));
    }
}

fn keys(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    match model.mode {
        Mode::Filter => canvas.line(area, 0, &format!("/{}", model.filter), BOLD),
        _ => {
            let text = "Enter ssh  l logs  s start  x stop  d delete  / filter  o sort  ? help  q quit";
            canvas.line(area, 0, text, DIM);
        }
    }
}

fn ask(canvas: &mut Canvas<'_>, screen: Rect, dialog: &Dialog) {
    let mut lines = dialog.lines.clone();
    lines.push(match &dialog.words {
        Some(_) => format!("> {}", dialog.typed),
        None => "y yes   n no".to_owned(),
    });
    popup(canvas, screen, &lines);
}

/// Draws lines in a box in the middle of the screen.
fn popup(canvas: &mut Canvas<'_>, screen: Rect, lines: &[String]) {
    let longest = lines.iter().map(|line| one_line(line).width()).max().unwrap_or_default();
    let width = (longest + 4).min(usize::from(screen.width)) as u16;
    let height = (lines.len() + 2).min(usize::from(screen.height)) as u16;
    let area = Rect {
        x: screen.x + (screen.width - width) / 2,
        y: screen.y + (screen.height - height) / 2,
        width,
        height,
    };
    let Frame { horizontal, vertical, top, bottom } = canvas.theme.charset.frame();
    let inner = usize::from(width).saturating_sub(2);
    let edge = |[left, right]: [&str; 2]| format!("{left}{}{right}", horizontal.repeat(inner));
    canvas.line(area, 0, &edge(top), Style::reset());
    for (place, line) in lines.iter().enumerate().take(usize::from(height).saturating_sub(2)) {
        let line = one_line(line);
        let text = canvas.theme.charset.shortened(&line, inner.saturating_sub(2));
        let line = format!("{vertical} {text}{} {vertical}", blanks(inner.saturating_sub(2 + text.width())));
        canvas.line(area, place + 1, &line, Style::reset());
    }
    canvas.line(area, usize::from(height).saturating_sub(1), &edge(bottom), Style::reset());
}

/// Where all text is written to the screen.
struct Canvas<'b> {
    buffer: &'b mut Buffer,
    theme: Theme,
}

impl Canvas<'_> {
    /// Writes one line of the list.
    fn cells(&mut self, area: Rect, line: usize, columns: &[(Column, usize)], cells: &[(String, Style)]) {
        let mut x = 0;
        for ((column, width), (text, style)) in columns.iter().zip(cells) {
            let text = one_line(text);
            let text = self.theme.charset.shortened(&text, *width);
            let indent = if column.is_figure() { width - text.width() } else { 0 };
            self.put(area, (x + indent, line), &text, *style);
            x += width + 1;
        }
    }

    /// Writes a line from the area's left edge.
    fn line(&mut self, area: Rect, line: usize, text: &str, style: Style) {
        self.put(area, (0, line), text, style);
    }

    /// Writes text, escaped and shortened to what fits into the area.
    fn put(&mut self, area: Rect, (x, line): (usize, usize), text: &str, style: Style) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        if line >= height || x >= width {
            return;
        }
        let text = one_line(text);
        let text = self.theme.charset.shortened(&text, width - x);
        self.buffer.set_stringn(area.x + x as u16, area.y + line as u16, text, width - x, style);
    }
}

/// Text in at most `most` lines of this width, broken between words where possible; the last one has the rest, whatever its
/// width. Line ends are escaped before.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let text = one_line(text);
    let mut rest = text.trim();
    let mut lines = Vec::new();
    while !rest.is_empty() && width > 0 {
        if rest.width() <= width || lines.len() + 1 >= most {
            lines.push(rest.to_owned());
            break;
        }
        let fitting = longest_prefix(rest, width);
        let end = match rest[..fitting].rfind(' ') {
            Some(blank) if !rest[fitting..].starts_with(' ') => blank,
            _ => fitting,
        };
        lines.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    lines
}

/// How many bytes of the text fit into this width; at least one character.
fn longest_prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (place, character) in text.char_indices() {
        used += character.width().unwrap_or_default();
        if used > width && place > 0 {
            return place;
        }
    }
    text.len()
}

fn blanks(count: usize) -> String {
    " ".repeat(count)
}
