//! Tables, aligned by the width of the text on a terminal.

use unicode_width::UnicodeWidthStr;

use super::escape;

/// Rows below a line of headings. All cells are in one buffer: a list of 10,000 VMs has 60,000 of them.
pub struct Table {
    text: String,
    /// Where each cell ends in `text`, row by row.
    ends: Vec<usize>,
    /// The widest cell of each column.
    widths: Vec<usize>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Self { text: String::new(), ends: Vec::new(), widths: vec![0; headings.len()] };
        table.cells(headings.iter());
        table
    }

    /// A table with the selected columns.
    pub fn of<const N: usize>(headings: &[&str; N], shown: &[bool; N]) -> Self {
        Self::new(&only(headings, shown).copied().collect::<Vec<_>>())
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
    pub(super) fn lines(&self) -> String {
        let line_length = self.widths.iter().map(|width| width + 2).sum::<usize>();
        let mut lines = String::with_capacity(self.ends.len() / self.widths.len().max(1) * line_length);
        let mut start = 0;
        for row in self.ends.chunks(self.widths.len().max(1)) {
            for (end, width) in row.iter().zip(&self.widths) {
                let cell = &self.text[start..*end];
                lines.push_str(cell);
                pad(&mut lines, width - width_of(cell) + 2);
                start = *end;
            }
            lines.truncate(lines.trim_end_matches(' ').len());
            lines.push('\n');
        }
        lines
    }
}

fn only<'t, T, const N: usize>(all: &'t [T; N], shown: &'t [bool; N]) -> impl Iterator<Item = &'t T> {
    all.iter().zip(shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell)
}

/// The width of the text on a terminal; for plain cells, the common case, that is their length.
fn width_of(cell: &str) -> usize {
    if cell.is_ascii() { cell.len() } else { cell.width() }
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
    #[test]
    fn columns_are_aligned_without_trailing_blanks() {
        let mut table = super::Table::new(&["NAME", "PHASE"]);
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
        assert_eq!(table.lines(), lines.join("\n") + "\n");
    }

    #[test]
    fn a_cell_is_one_escaped_line_aligned_by_its_displayed_width() {
        let mut table = super::Table::new(&["A", "B"]);
        table.row(["x\n\t\u{1b}[2J\u{202e}", "y"]);
        assert_eq!(table.lines(), format!("A{}B\nx\\n\\t\\x1b[2J\\u{{202e}}  y\n", " ".repeat(21)));
    }
}
