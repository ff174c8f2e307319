//! Times, sizes and problems in words.

use std::time::Duration;

use goloo_core::spec::Problem;

/// How long ago, in its largest unit: `3 d`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("min", 60)];
    let (unit, length) = units.into_iter().find(|(_, length)| seconds >= *length).unwrap_or(("s", 1));
    // Without the formatter, which a list of thousands would notice.
    [itoa::Buffer::new().format(seconds / length), " ", unit].concat()
}

/// How long something took: `1 min 5 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
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

/// How many of one kind are told of at once.
const TOLD_MAX: usize = 20;

/// The first of many texts, and how many more there are.
pub fn first<T>(many: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> Vec<String> {
    let mut many = many.into_iter();
    let mut texts: Vec<String> = many.by_ref().take(TOLD_MAX).map(text).collect();
    match many.count() {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    texts
}

/// A problem in one line: place, what, and what to do.
pub fn problem_line(problem: &Problem) -> String {
    let pointer = match problem.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" {pointer}:"),
    };
    format!(
        "{}:{}:{}:{pointer} {} ({})",
        problem.file, problem.line, problem.column, problem.message, problem.hint
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_first_are_told_and_the_rest_is_counted() {
        let texts = |count: usize| first(0..count, |number| number.to_string());
        assert_eq!(texts(20).len(), 20);
        assert_eq!((texts(300_000).len(), texts(300_000)[20].as_str()), (21, "and 299980 more"));
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(age(Duration::from_secs(59)), "59 s");
        assert_eq!(age(Duration::from_secs(7_300)), "2 h");
        assert_eq!(duration(Duration::from_secs(65)), "1 min 5 s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(144_912_384), "138.2 MiB");
    }
}
