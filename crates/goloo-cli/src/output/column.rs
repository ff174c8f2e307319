//! The columns of tables, and how they fit a terminal. Pure.
//!
//! On a terminal that is too narrow, texts are shortened and columns are left out, the least important first. Names are
//! shortened last. Output that isn't for a terminal is never shortened.

use super::style::Style;

/// The blanks between two columns.
pub const GAP: usize = 2;
/// The least that is left of a text and of a name.
const TEXT_LEAST: usize = 12;
const NAME_LEAST: usize = 8;

/// A column of a table.
#[derive(Clone, Copy)]
pub struct Column {
    pub heading: &'static str,
    room: Room,
    pub is_figure: bool,
    /// The color of a cell, by its text.
    pub style: Option<fn(&str) -> Option<Style>>,
}

/// What happens to a column if there isn't enough room. Of those that can be left out, the lowest rank goes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Identifies the row: shortened when everything else has been left out.
    Name,
    /// Always shown in full.
    Kept,
    /// Shown in full or left out.
    Whole(u8),
    /// Shortened, then left out.
    Text(u8),
}

impl Column {
    const fn new(heading: &'static str, room: Room) -> Self {
        Self { heading, room, is_figure: false, style: None }
    }

    /// What identifies the row.
    pub const fn name(heading: &'static str) -> Self {
        Self::new(heading, Room::Name)
    }

    /// Short and important: never shortened or left out.
    pub const fn kept(heading: &'static str) -> Self {
        Self::new(heading, Room::Kept)
    }

    /// Useless when shortened: an address, an amount, a time.
    pub const fn whole(heading: &'static str, rank: u8) -> Self {
        Self::new(heading, Room::Whole(rank))
    }

    /// Text whose beginning is still useful.
    pub const fn text(heading: &'static str, rank: u8) -> Self {
        Self::new(heading, Room::Text(rank))
    }

    /// Aligned on the right: amounts and durations.
    pub const fn figure(self) -> Self {
        Self { is_figure: true, ..self }
    }

    /// With colors for its cells.
    pub const fn styled(self, style: fn(&str) -> Option<Style>) -> Self {
        Self { style: Some(style), ..self }
    }

    fn rank(&self) -> Option<u8> {
        match self.room {
            Room::Name | Room::Kept => None,
            Room::Whole(rank) | Room::Text(rank) => Some(rank),
        }
    }

    fn least(&self, width: usize) -> usize {
        match self.room {
            Room::Text(_) => width.min(TEXT_LEAST),
            Room::Name | Room::Kept | Room::Whole(_) => width,
        }
    }
}

/// The widths of the columns on a terminal with `available` columns, where `widths` are those of their widest cells;
/// `None` for a column that is left out.
pub fn fit(columns: &[Column], widths: &[usize], available: usize) -> Vec<Option<usize>> {
    let mut fitted: Vec<Option<usize>> =
        columns.iter().zip(widths).map(|(column, width)| Some(column.least(*width))).collect();
    let mut by_rank: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].rank().is_some()).collect();
    by_rank.sort_by_key(|at| columns[*at].rank());
    for place in &by_rank {
        if total(&fitted) <= available {
            break;
        }
        fitted[*place] = None;
    }
    for place in (0..columns.len()).filter(|at| columns[*at].room == Room::Name) {
        let surplus = total(&fitted).saturating_sub(available);
        fitted[place] = Some(widths[place].saturating_sub(surplus).max(NAME_LEAST.min(widths[place])));
    }
    // What is left goes to the most important texts.
    for place in by_rank.into_iter().rev() {
        let left = available.saturating_sub(total(&fitted));
        if let Some(width) = &mut fitted[place] {
            *width = widths[place].min(*width + left);
        }
    }
    fitted
}

fn total(fitted: &[Option<usize>]) -> usize {
    let shown = fitted.iter().flatten();
    (shown.clone().sum::<usize>() + shown.count() * GAP).saturating_sub(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] = [
        Column::name("NAME"),
        Column::kept("STATE"),
        Column::whole("ADDRESS", 3),
        Column::text("STACK", 2),
        Column::text("TAGS", 1),
    ];

    fn fitted(widths: [usize; 5], available: usize) -> String {
        let shown = fit(&COLUMNS, &widths, available);
        let shown = COLUMNS.iter().zip(shown).filter_map(|(column, width)| Some((column.heading, width?)));
        shown.map(|(heading, width)| format!("{heading}:{width}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn texts_are_shortened_then_columns_are_left_out_and_names_are_shortened_last() {
        let widths = [20, 7, 15, 30, 40];
        for (available, expected) in [
            (120, "NAME:20 STATE:7 ADDRESS:15 STACK:30 TAGS:40"),
            (119, "NAME:20 STATE:7 ADDRESS:15 STACK:30 TAGS:39"),
            (92, "NAME:20 STATE:7 ADDRESS:15 STACK:30 TAGS:12"),
            (91, "NAME:20 STATE:7 ADDRESS:15 STACK:29 TAGS:12"),
            (74, "NAME:20 STATE:7 ADDRESS:15 STACK:12 TAGS:12"),
            (73, "NAME:20 STATE:7 ADDRESS:15 STACK:25"),
            (59, "NAME:20 STATE:7 ADDRESS:15"),
            (45, "NAME:20 STATE:7"),
            (25, "NAME:16 STATE:7"),
            (0, "NAME:8 STATE:7"),
        ] {
            assert_eq!(fitted(widths, available), expected, "{available}");
        }
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        for available in 17..200 {
            for widths in [[3, 7, 9, 5, 1], [63, 7, 15, 30, 255], [8, 7, 39, 63, 12]] {
                let shown = fit(&COLUMNS, &widths, available);
                assert!(total(&shown) <= available, "{widths:?}, {available}: {shown:?}");
            }
        }
    }
}
