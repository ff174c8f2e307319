//! The columns of the list, and which of them a terminal has room for. Pure.

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Name,
    /// Only if a VM belongs to one.
    Environment,
    Provider,
    State,
    Cpu,
    Memory,
    Disk,
    Age,
    Ttl,
    Activity,
}

/// In the order in which they are shown.
const ALL: [Column; 10] = [
    Column::Name,
    Column::Environment,
    Column::Provider,
    Column::State,
    Column::Cpu,
    Column::Memory,
    Column::Disk,
    Column::Age,
    Column::Ttl,
    Column::Activity,
];

/// The order in which they are left out on a narrow terminal. Name and state always stay.
const DROPPED: [Column; 8] = [
    Column::Provider,
    Column::Environment,
    Column::Ttl,
    Column::Age,
    Column::Disk,
    Column::Memory,
    Column::Activity,
    Column::Cpu,
];

/// What most names fit into, and the widest that their column gets.
const NAME_USUAL: usize = 20;
const NAME_MAX: usize = 40;
/// What most operations fit into.
const ACTIVITY_USUAL: usize = 24;

impl Column {
    pub fn heading(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Environment => "ENVIRONMENT",
            Self::Provider => "PROVIDER",
            Self::State => "STATE",
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Disk => "DISK",
            Self::Age => "AGE",
            Self::Ttl => "TTL",
            Self::Activity => "OPERATION",
        }
    }

    /// Whether its cells are figures, which are aligned on the right.
    pub fn is_figure(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Disk | Self::Age | Self::Ttl)
    }

    fn least_width(self) -> usize {
        match self {
            Self::Name => 8,
            Self::Provider | Self::State | Self::Activity => 9,
            Self::Cpu => 5,
            Self::Environment | Self::Memory | Self::Disk => 11,
            Self::Age => 6,
            Self::Ttl => 7,
        }
    }
}

/// The columns for a terminal of this width, with their widths. There is one blank between two columns.
pub fn fit(width: usize, longest_name: usize, has_environments: bool) -> Vec<(Column, usize)> {
    let mut columns = ALL.to_vec();
    columns.retain(|column| has_environments || *column != Column::Environment);
    let needed = |columns: &[Column]| {
        columns.iter().map(|column| column.least_width() + 1).sum::<usize>().saturating_sub(1)
    };
    for dropped in DROPPED {
        if needed(&columns) <= width {
            break;
        }
        columns.retain(|column| *column != dropped);
    }
    let mut left = width.saturating_sub(needed(&columns));
    let mut fitted: Vec<_> = columns.into_iter().map(|column| (column, column.least_width())).collect();
    // Both get enough for most texts before names are shown in full; the last column gets the rest.
    let grown = [
        (Column::Name, NAME_USUAL.min(longest_name)),
        (Column::Activity, ACTIVITY_USUAL),
        (Column::Name, NAME_MAX.min(longest_name)),
        (Column::Activity, width),
    ];
    for (column, wanted) in grown {
        for (_, width) in fitted.iter_mut().filter(|(fitted, _)| *fitted == column) {
            let more = wanted.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize, longest_name: usize) -> String {
        let columns = fit(width, longest_name, false);
        columns
            .iter()
            .map(|(column, width)| format!("{}:{width}", column.heading()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn columns_are_dropped_by_importance_as_the_terminal_gets_narrower() {
        let headings = |width: usize| {
            fit(width, 8, true).iter().map(|(column, _)| column.heading()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(headings(120), "NAME ENVIRONMENT PROVIDER STATE CPU MEMORY DISK AGE TTL OPERATION");
        assert_eq!(headings(90), "NAME ENVIRONMENT STATE CPU MEMORY DISK AGE TTL OPERATION");
        assert_eq!(headings(80), "NAME STATE CPU MEMORY DISK AGE TTL OPERATION");
        assert_eq!(headings(70), "NAME STATE CPU MEMORY DISK AGE OPERATION");
        assert_eq!(headings(60), "NAME STATE CPU MEMORY DISK OPERATION");
        assert_eq!(headings(50), "NAME STATE CPU MEMORY OPERATION");
        assert_eq!(headings(40), "NAME STATE CPU OPERATION");
        assert_eq!(headings(30), "NAME STATE CPU");
        assert_eq!(headings(20), "NAME STATE");
        assert_eq!(headings(0), "NAME STATE");
    }

    #[test]
    fn usual_texts_have_room_before_long_names_are_shown_in_full() {
        assert_eq!(shown(80, 12), "NAME:12 STATE:9 CPU:5 MEMORY:11 DISK:11 AGE:6 TTL:7 OPERATION:12");
        assert_eq!(shown(80, 60), "NAME:15 STATE:9 CPU:5 MEMORY:11 DISK:11 AGE:6 TTL:7 OPERATION:9");
        let figures = "PROVIDER:9 STATE:9 CPU:5 MEMORY:11 DISK:11 AGE:6 TTL:7";
        assert_eq!(shown(112, 60), format!("NAME:22 {figures} OPERATION:24"));
        assert_eq!(shown(200, 60), format!("NAME:40 {figures} OPERATION:94"));
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        for width in 18..250 {
            for (longest_name, has_environments) in [(1, false), (12, true), (63, true)] {
                let columns = fit(width, longest_name, has_environments);
                let total = columns.iter().map(|(_, width)| width).sum::<usize>() + columns.len() - 1;
                assert!(total <= width, "{total} > {width}");
            }
        }
    }
}
