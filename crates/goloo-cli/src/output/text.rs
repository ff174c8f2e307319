//! Formats times, sizes and problems.

use std::time::Duration;

use goloo_model::spec::Diagnostic;

use super::hint;

/// How long ago, in its largest unit: `3 d`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("min", 60)];
    let (unit, length) = units.into_iter().find(|(_, length)| seconds >= *length).unwrap_or(("s", 1));
    // Avoids the formatter, which would slow down a list of thousands.
    [itoa::Buffer::new().format(seconds / length), " ", unit].concat()
}

/// How long something took or has lasted, in its two largest units: `1 min 5 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number of bytes in units of 1024: `138.2 MiB`.
pub fn bytes(count: u64) -> String {
    let mut amount = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

/// How many items of one kind are printed at most.
const TOLD_MAX: usize = 20;

/// The first of many texts, and the number of the others.
pub fn first<T>(many: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> Vec<String> {
    let mut many = many.into_iter();
    let mut texts: Vec<String> = many.by_ref().take(TOLD_MAX).map(text).collect();
    match many.count() {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    texts
}

/// What may be wrong in a file, on one line: place, message and hint.
pub fn diagnostic_line(diagnostic: &Diagnostic) -> String {
    format!("{diagnostic} ({})", hint::text(&diagnostic.hint))
}

/// A problem on one line: place, message and hint.
pub fn problem_line(problem: &Diagnostic) -> String {
    let pointer = match problem.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" {pointer}:"),
    };
    format!(
        "{}:{}:{}:{pointer} {} ({})",
        problem.file,
        problem.line,
        problem.column,
        problem.message,
        hint::text(&problem.hint)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_shows_the_first_items_and_counts_the_rest() {
        let texts = |count: usize| first(0..count, |number| number.to_string());
        assert_eq!(texts(20).len(), 20);
        assert_eq!((texts(300_000).len(), texts(300_000)[20].as_str()), (21, "and 299980 more"));
    }

    #[test]
    fn amounts_are_formatted_briefly() {
        assert_eq!(age(Duration::from_secs(59)), "59 s");
        assert_eq!(age(Duration::from_secs(7_300)), "2 h");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 5 s");
        assert_eq!(duration(Duration::from_secs(3_599)), "59 min 59 s");
        assert_eq!(duration(Duration::from_secs(7_380)), "2 h 3 min");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(144_912_384), "138.2 MiB");
    }
}
