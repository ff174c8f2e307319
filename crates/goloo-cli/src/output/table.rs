//! Tables, aligned by the width of the text on a terminal.

use super::charset::{Charset, width_of};
use super::column::{self, Column, GAP};
use super::escape;
use super::style::{Style, painted};

/// Rows below a line of headings. All cells are in one buffer: a list of 10,000 VMs has 60,000 of them.
pub struct Table {
    columns: Vec<Column>,
    text: String,
    /// Where each cell ends in `text`, row by row.
    ends: Vec<usize>,
    /// The widest cell of each column.
    widths: Vec<usize>,
}

/// What a table is shown on.
#[derive(Clone, Copy)]
pub(super) struct Surface {
    /// The width of a terminal; `None` if nothing is shortened.
    pub width: Option<usize>,
    /// Whether it shows colors.
    pub color: bool,
    /// What marks shortened texts.
    pub charset: Charset,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[Column]) -> Self {
        let mut table = Self {
            columns: columns.to_vec(),
            text: String::new(),
            ends: Vec::new(),
            widths: vec![0; columns.len()],
        };
        table.cells(columns.iter().map(|column| column.heading));
        table
    }

    /// A table with the selected columns.
    pub fn of<const N: usize>(columns: &[Column; N], shown: &[bool; N]) -> Self {
        Self::new(&only(columns, shown).copied().collect::<Vec<_>>())
    }

    /// Adds a row, reduced to the selected columns.
    pub fn row_of<const N: usize>(&mut self, cells: &[impl AsRef<str>; N], shown: &[bool; N]) {
        self.cells(only(cells, shown));
    }

    /// Adds a row, a cell for each heading; an empty one is shown as `-`.
    pub fn row<const N: usize>(&mut self, cells: [impl AsRef<str>; N]) {
        self.cells(cells.iter());
    }

    fn cells(&mut self, cells: impl Iterator<Item = impl AsRef<str>>) {
        debug_assert_eq!(self.ends.len() % self.widths.len().max(1), 0, "a cell for each heading");
        for (cell, width) in cells.zip(&mut self.widths) {
            let cell = if cell.as_ref().is_empty() { "-" } else { cell.as_ref() };
            let cell = escape::one_line(cell);
            self.text.push_str(&cell);
            self.ends.push(self.text.len());
            *width = (*width).max(width_of(&cell));
        }
    }

    /// The lines, without trailing blanks, each with a line end.
    pub(super) fn lines(&self, surface: Surface) -> String {
        let widths: Vec<Option<usize>> = match surface.width {
            Some(available) => column::fit(&self.columns, &self.widths, available),
            None => self.widths.iter().copied().map(Some).collect(),
        };
        let line_length = widths.iter().flatten().map(|width| width + GAP).sum::<usize>();
        let mut lines = String::with_capacity(self.ends.len() / self.widths.len().max(1) * line_length);
        let mut start = 0;
        for (number, row) in self.ends.chunks(self.widths.len().max(1)).enumerate() {
            for (place, end) in row.iter().enumerate() {
                let cell = &self.text[start..*end];
                start = *end;
                let (Some(width), column) = (widths[place], &self.columns[place]) else { continue };
                let style = match surface.color {
                    false => None,
                    true if number == 0 => Some(Style::Bold),
                    true => column.style.and_then(|style| style(cell)),
                };
                put(
                    &mut lines,
                    &surface.charset.shortened(cell, width),
                    Cell { width, style, is_figure: column.is_figure },
                );
            }
            lines.truncate(lines.trim_end_matches(' ').len());
            lines.push('\n');
        }
        lines
    }
}

/// How a cell is shown.
struct Cell {
    width: usize,
    style: Option<Style>,
    is_figure: bool,
}

fn put(lines: &mut String, text: &str, cell: Cell) {
    let padding = cell.width.saturating_sub(width_of(text));
    let before = if cell.is_figure { padding } else { 0 };
    pad(lines, before);
    match cell.style {
        Some(style) => lines.push_str(&painted(true, style, text)),
        None => lines.push_str(text),
    }
    pad(lines, padding - before + GAP);
}

fn only<'t, T, const N: usize>(all: &'t [T; N], shown: &'t [bool; N]) -> impl Iterator<Item = &'t T> {
    all.iter().zip(shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell)
}

fn pad(line: &mut String, mut count: usize) {
    const BLANKS: &str = "                                ";
    while count > 0 {
        let step = count.min(BLANKS.len());
        line.push_str(&BLANKS[..step]);
        count -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Surface = Surface { width: None, color: false, charset: Charset::Utf8 };

    fn plain(table: &Table) -> String {
        table.lines(PLAIN)
    }

    #[test]
    fn columns_are_aligned_without_trailing_blanks() {
        let mut table = Table::new(&[Column::name("NAME"), Column::kept("PHASE")]);
        table.row(["a", "ready"]);
        table.row(["日本", ""]);
        table.row(["x".repeat(40), "y".to_owned()]);
        let name = |name: &str, width: usize| format!("{name}{}", " ".repeat(42 - width));
        let lines = [
            name("NAME", 4) + "PHASE",
            name("a", 1) + "ready",
            name("日本", 4) + "-",
            "x".repeat(40) + "  y",
        ];
        assert_eq!(plain(&table), lines.join("\n") + "\n");
    }

    #[test]
    fn figures_are_aligned_on_the_right() {
        let mut table = Table::new(&[Column::whole("AGE", 1).figure(), Column::name("NAME")]);
        table.row(["5 min", "a"]);
        table.row(["23 d", "b"]);
        assert_eq!(plain(&table), "  AGE  NAME\n5 min  a\n 23 d  b\n");
    }

    #[test]
    fn a_cell_is_one_escaped_line_aligned_by_its_displayed_width() {
        let mut table = Table::new(&[Column::name("A"), Column::kept("B")]);
        table.row(["x\n\t\u{1b}[2J\u{202e}", "y"]);
        assert_eq!(plain(&table), format!("A{}B\nx\\n\\t\\x1b[2J\\u{{202e}}  y\n", " ".repeat(21)));
    }

    #[test]
    fn on_a_narrow_terminal_cells_are_shortened_by_their_displayed_width() {
        let mut table = Table::new(&[Column::name("NAME"), Column::text("STACK", 1)]);
        table.row(["web", "日本日本日本日本"]);
        let lines = |charset| table.lines(Surface { width: Some(18), charset, ..PLAIN });
        assert_eq!(lines(Charset::Utf8), "NAME  STACK\nweb   日本日本日…\n");
        assert_eq!(lines(Charset::Ascii), "NAME  STACK\nweb   日本日本...\n");
    }

    #[test]
    fn colors_leave_the_alignment_as_it_is() {
        let green = |text: &str| (text == "running").then_some(Style::Green);
        let mut table = Table::new(&[Column::kept("STATE").styled(green), Column::name("NAME")]);
        table.row(["running", "a"]);
        table.row(["stopped", "b"]);
        let lines = table.lines(Surface { color: true, ..PLAIN });
        let expected = "\u{1b}[1mSTATE\u{1b}[0m    \u{1b}[1mNAME\u{1b}[0m\n\
                        \u{1b}[32;1mrunning\u{1b}[0m  a\nstopped  b\n";
        assert_eq!(lines, expected);
    }
}
