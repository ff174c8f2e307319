//! Edits goloo's block in the text of a hosts file; does no I/O.
//!
//! ```text
//! # BEGIN goloo
//! 127.0.0.1 devbox
//! # END goloo
//! ```
//!
//! Only the two markers and the lines of that form between them belong to goloo. Everything else is kept byte for byte.

use std::borrow::Cow;
use std::net::IpAddr;

use goloo_model::name::VmName;

const BEGIN: &str = "# BEGIN goloo";
const END: &str = "# END goloo";

/// A change of one VM's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set the name's address.
    Set(VmName, IpAddr),
    /// Remove the name.
    Remove(VmName),
}

/// A text after a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// All of it.
    pub text: Vec<u8>,
    /// Whether a missing end marker was inserted where goloo's lines end.
    pub mended: bool,
}

/// The name is used in a line that isn't goloo's.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken;

impl Change {
    /// The VM's name.
    pub fn name(&self) -> &VmName {
        match self {
            Self::Set(name, _) | Self::Remove(name) => name,
        }
    }

    /// Applies the change to a hosts file's text.
    pub fn apply(&self, text: &[u8]) -> Result<Edited, Taken> {
        let (mut lines, mended) = parse(text);
        match self {
            Self::Set(name, ip) => {
                if lines.iter().any(|line| line.is_foreign(name)) {
                    return Err(Taken);
                }
                set(&mut lines, name, *ip);
            }
            Self::Remove(name) => {
                if !lines.iter().any(|line| line.is_entry_of(name)) {
                    return Ok(Edited { text: text.to_owned(), mended: false });
                }
                remove(&mut lines, name);
            }
        }
        Ok(Edited { text: lines.iter().flat_map(|line| line.bytes.iter().copied()).collect(), mended })
    }
}

/// A line with its end, if it has one.
struct Line<'t> {
    bytes: Cow<'t, [u8]>,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Begin,
    Entry(IpAddr, VmName),
    End,
    Foreign,
}

impl<'t> Line<'t> {
    fn of(kind: Kind, bytes: &'t [u8]) -> Self {
        Self { bytes: Cow::Borrowed(bytes), kind }
    }

    fn entry(ip: IpAddr, name: &VmName) -> Self {
        let bytes = format!("{ip} {name}\n").into_bytes();
        Self { bytes: Cow::Owned(bytes), kind: Kind::Entry(ip, name.clone()) }
    }

    fn is_entry_of(&self, name: &VmName) -> bool {
        matches!(&self.kind, Kind::Entry(_, own) if own == name)
    }

    /// Whether the line isn't goloo's and uses the name. Names in hosts files are case-insensitive.
    fn is_foreign(&self, name: &VmName) -> bool {
        let text = String::from_utf8_lossy(&self.bytes);
        let names = text.split('#').next().unwrap_or_default().split_whitespace().skip(1);
        self.kind == Kind::Foreign && names.into_iter().any(|word| word.eq_ignore_ascii_case(name.as_str()))
    }

    fn is_ended(&self) -> bool {
        self.bytes.ends_with(b"\n")
    }

    fn end(&mut self) {
        if !self.is_ended() {
            self.bytes.to_mut().push(b'\n');
        }
    }
}

/// The lines, and whether a missing end marker was inserted.
fn parse(text: &[u8]) -> (Vec<Line<'_>>, bool) {
    let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let (mut lines, mut mended) = (Vec::with_capacity(all.len()), false);
    let mut rest = all.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if !is_marker(first, BEGIN) {
            lines.push(Line::of(Kind::Foreign, first));
            continue;
        }
        lines.push(Line::of(Kind::Begin, first));
        let (count, closed) = extent(after);
        let (inside, after) = after.split_at(count);
        lines.extend(inside.iter().map(|line| Line::of(entry(line).unwrap_or(Kind::Foreign), line)));
        if closed {
            lines.push(Line::of(Kind::End, after[0]));
            rest = &after[1..];
        } else {
            lines.last_mut().expect("the block has begun").end();
            lines.push(Line { bytes: format!("{END}\n").into_bytes().into(), kind: Kind::End });
            (rest, mended) = (after, true);
        }
    }
    (lines, mended)
}

/// How many lines follow the start of a block, and whether it has an end marker. Without one, the block ends after the
/// last line that goloo wrote: the rest isn't goloo's.
fn extent(after: &[&[u8]]) -> (usize, bool) {
    let marker = after.iter().position(|line| is_marker(line, BEGIN) || is_marker(line, END));
    match marker {
        Some(at) if is_marker(after[at], END) => (at, true),
        _ => (after.iter().take_while(|line| is_as_written(line)).count(), false),
    }
}

fn is_marker(line: &[u8], marker: &str) -> bool {
    line.trim_ascii() == marker.as_bytes()
}

/// An address and one VM's name, separated by any whitespace: people align their hosts files.
fn entry(line: &[u8]) -> Option<Kind> {
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let (ip, name) = (words.next()?.parse().ok()?, VmName::parse(words.next()?).ok()?);
    words.next().is_none().then_some(Kind::Entry(ip, name))
}

fn is_as_written(line: &[u8]) -> bool {
    match entry(line) {
        Some(Kind::Entry(ip, name)) => line.trim_ascii_end() == format!("{ip} {name}").as_bytes(),
        _ => false,
    }
}

fn set(lines: &mut Vec<Line<'_>>, name: &VmName, ip: IpAddr) {
    let mut is_there = false;
    lines.retain_mut(|line| {
        if !line.is_entry_of(name) {
            return true;
        }
        if line.kind != Kind::Entry(ip, name.clone()) {
            *line = Line::entry(ip, name);
        }
        !std::mem::replace(&mut is_there, true)
    });
    if is_there {
        return;
    }
    match lines.iter().position(|line| line.kind == Kind::End) {
        Some(end) => lines.insert(end, Line::entry(ip, name)),
        None => append(lines, name, ip),
    }
}

/// Appends a block. If the file's last line has no line end, neither has the block's: this tells [`remove`] that the
/// line break before the block is goloo's.
fn append(lines: &mut Vec<Line<'_>>, name: &VmName, ip: IpAddr) {
    let is_ended = lines.last().is_none_or(Line::is_ended);
    if let Some(last) = lines.last_mut() {
        last.end();
    }
    let mut end = END.as_bytes().to_vec();
    if is_ended {
        end.push(b'\n');
    }
    lines.push(Line { bytes: format!("{BEGIN}\n").into_bytes().into(), kind: Kind::Begin });
    lines.push(Line::entry(ip, name));
    lines.push(Line { bytes: end.into(), kind: Kind::End });
}

/// Removes the name's lines, and the block if it is then empty.
fn remove(lines: &mut Vec<Line<'_>>, name: &VmName) {
    lines.retain(|line| !line.is_entry_of(name));
    let is_empty = |pair: &[Line<'_>]| pair[0].kind == Kind::Begin && pair[1].kind == Kind::End;
    while let Some(begin) = lines.windows(2).position(is_empty) {
        let was_ended = lines[begin + 1].is_ended();
        lines.drain(begin..begin + 2);
        if !was_ended && let Some(before) = lines[..begin].last_mut() {
            before.bytes.to_mut().pop();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> VmName {
        VmName::parse(text).unwrap()
    }

    fn set(text: &str, vm: &str, ip: &str) -> String {
        let edited = Change::Set(name(vm), ip.parse().unwrap()).apply(text.as_bytes()).unwrap();
        String::from_utf8(edited.text).unwrap()
    }

    fn remove(text: &str, vm: &str) -> String {
        let edited = Change::Remove(name(vm)).apply(text.as_bytes()).unwrap();
        String::from_utf8(edited.text).unwrap()
    }

    fn is_taken(text: &str, vm: &str) -> bool {
        Change::Set(name(vm), [127, 0, 0, 1].into()).apply(text.as_bytes()) == Err(Taken)
    }

    const HOSTS: &str = "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # six\n";
    const WEB: &str = "# BEGIN goloo\n10.0.0.2 web\n# END goloo\n";
    const TWO: &str = "# BEGIN goloo\n10.0.0.2 web\n10.0.0.3 web-blue\n# END goloo\n";

    #[test]
    fn a_name_is_added_changed_and_removed() {
        for before in ["", HOSTS, "\n\n", "127.0.0.1 localhost\r\n# Windows\r\n", "# caf\u{e9}\n"] {
            let one = set(before, "web", "10.0.0.2");
            assert_eq!(one, format!("{before}{WEB}"));
            assert_eq!(set(&one, "web", "10.0.0.2"), one);
            assert_eq!(set(&one, "web", "10.9.9.9"), one.replace("10.0.0.2", "10.9.9.9"));
            let two = set(&one, "web-blue", "10.0.0.3");
            assert_eq!(two, format!("{before}{TWO}"));
            assert_eq!(remove(&two, "web-blue"), one);
            assert_eq!(remove(&one, "web"), before);
        }
    }

    #[test]
    fn a_file_without_a_final_newline_is_restored_exactly() {
        for before in ["127.0.0.1 localhost", "a\r\nb", "a\r", " "] {
            let one = set(before, "web", "10.0.0.2");
            assert_eq!(one, format!("{before}\n{}", WEB.trim_end()));
            assert_eq!(remove(&set(&one, "db", "10.0.0.3"), "db"), one);
            assert_eq!(remove(&one, "web"), before);
        }
    }

    #[test]
    fn names_are_compared_as_whole_words() {
        let without = |vm| remove(TWO, vm);
        assert_eq!(without("web"), TWO.replace("10.0.0.2 web\n", ""));
        assert_eq!(without("web-blue"), WEB);
        for other in ["we", "blue", "eb", "web-blu", "x"] {
            assert_eq!(without(other), TWO);
        }
        assert_eq!(set(TWO, "web", "10.0.0.9"), TWO.replace("10.0.0.2 web\n", "10.0.0.9 web\n"));
        assert!(!is_taken("10.0.0.1 web-blue web.example.com # web\n# 10.0.0.1 web\n", "web"));
    }

    #[test]
    fn other_bytes_around_and_within_the_block_are_preserved() {
        let text = "a\r\n# BEGIN goloo\r\n# mine\n10.0.0.2\tweb\r\nfe80::1 x y\n# END goloo\r\nz";
        assert_eq!(set(text, "web", "10.0.0.2"), text);
        assert_eq!(set(text, "web", "10.0.0.7"), text.replace("10.0.0.2\tweb\r\n", "10.0.0.7 web\n"));
        assert_eq!(remove(text, "web"), text.replace("10.0.0.2\tweb\r\n", ""));
        let latin = b"10.0.0.1 caf\xe9\n";
        let edited = Change::Set(name("web"), [10, 0, 0, 2].into()).apply(latin).unwrap();
        assert_eq!(edited.text, [&latin[..], WEB.as_bytes()].concat());
    }

    #[test]
    fn an_unmanaged_entry_is_left_unchanged() {
        for line in ["10.0.0.1 web", "10.0.0.1\tx WEB # y", "# BEGIN goloo\n10.0.0.2 web x\n# END goloo"] {
            for text in [line.to_owned(), format!("{HOSTS}{line}\n{TWO}"), format!("{TWO}{line}\r\n")] {
                assert!(is_taken(&text, "web"), "{text}");
                let gone = text.replace("10.0.0.2 web\n", "");
                assert_eq!(remove(&text, "web"), gone, "only goloo's own line goes");
            }
        }
        assert!(is_taken(HOSTS, "localhost"));
    }

    #[test]
    fn a_missing_end_marker_is_restored_without_losing_other_lines() {
        let rest = "127.0.0.1\tlocalhost\n10.0.0.9 mine also\n10.0.0.8 late\n";
        let torn = format!("{HOSTS}# BEGIN goloo\n10.0.0.2 web\n10.0.0.3 web-blue\n{rest}");
        let mended = format!("{HOSTS}{TWO}{rest}");
        assert_eq!(set(&torn, "web", "10.0.0.2"), mended);
        assert_eq!(remove(&torn, "web-blue"), format!("{HOSTS}{WEB}{rest}"));
        assert_eq!(remove(&remove(&torn, "web-blue"), "web"), format!("{HOSTS}{rest}"));
        assert_eq!(remove(&torn, "late"), torn);
        assert!(Change::Set(name("db"), [10, 0, 0, 4].into()).apply(torn.as_bytes()).unwrap().mended);
        assert!(!Change::Set(name("db"), [10, 0, 0, 4].into()).apply(mended.as_bytes()).unwrap().mended);
        assert_eq!(set("# BEGIN goloo", "web", "10.0.0.2"), WEB);
        assert_eq!(set("# BEGIN goloo\n10.0.0.1 web", "web", "10.0.0.2"), WEB);
        // The end marker of another block doesn't end this one.
        let double = format!("# BEGIN goloo\n10.0.0.5 db\nmine\n{WEB}");
        assert_eq!(set(&double, "web", "10.0.0.2"), double.replace("mine", "# END goloo\nmine"));
    }

    #[test]
    fn duplicate_lines_of_a_name_are_merged() {
        let double = format!("{WEB}x\n# BEGIN goloo\n10.0.0.3 web\n10.0.0.4 db\n# END goloo\n");
        let one = format!("{}x\n# BEGIN goloo\n10.0.0.4 db\n# END goloo\n", WEB.replace('2', "9"));
        assert_eq!(set(&double, "web", "10.0.0.9"), one);
        assert_eq!(remove(&double, "web"), "x\n# BEGIN goloo\n10.0.0.4 db\n# END goloo\n");
    }

    fn foreign() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("127.0.0.1 localhost".to_owned()),
            Just("10.0.0.1 vm-a".to_owned()),
            Just("# END goloo".to_owned()),
            "[ -~\u{e9}\t]{0,12}",
        ];
        let lines = prop::collection::vec((line, prop_oneof![Just("\n"), Just("\r\n")]), 0..6);
        (lines, any::<bool>()).prop_map(|(lines, ended)| {
            let text: String = lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()]).collect();
            if ended { text } else { text.trim_end_matches('\n').to_owned() }
        })
    }

    fn block() -> impl Strategy<Value = String> {
        let entries = prop::collection::btree_set(0_u8..4, 1..4);
        let lines = |numbers: std::collections::BTreeSet<u8>| -> String {
            numbers.iter().map(|number| format!("10.0.0.{number} vm-{number}\n")).collect()
        };
        entries.prop_map(move |entries| format!("# BEGIN goloo\n{}# END goloo\n", lines(entries)))
    }

    proptest! {
        #[test]
        fn adding_and_removing_a_name_restores_the_file(before in foreign(), block in block(), has_block: bool, after in foreign()) {
            let before = if has_block && !before.is_empty() { format!("{before}\n") } else { before };
            let text = if has_block { format!("{before}{block}{after}") } else { before };
            let one = set(&text, "new", "10.1.1.1");
            prop_assert_eq!(remove(&one, "new"), text);
        }

        #[test]
        fn text_outside_the_block_is_unchanged(before in foreign(), block in block(), after in foreign(), number in 0_u8..4) {
            let before = if before.is_empty() { before } else { format!("{before}\n") };
            let vm = format!("vm-{number}");
            let text = format!("{before}{block}{after}");
            for edited in [set(&text, &vm, "10.1.1.1"), remove(&text, &vm)] {
                let inside = edited.strip_prefix(&before).and_then(|text| text.strip_suffix(&after));
                let inside = inside.expect("the text around the block is unchanged");
                let is_ours = |line: &str| line == BEGIN || line == END || entry(line.as_bytes()).is_some();
                prop_assert!(inside.lines().all(is_ours), "{}", inside);
            }
        }

        #[test]
        fn edits_of_arbitrary_text_are_idempotent(text in prop::collection::vec(any::<u8>(), 0..80), torn in "(# BEGIN goloo|# END goloo|10.0.0.1 web|\n|\r|x| ){0,20}") {
            for text in [text, torn.into_bytes()] {
                let Ok(one) = Change::Set(name("web"), [10, 0, 0, 2].into()).apply(&text) else { continue };
                let again = Change::Set(name("web"), [10, 0, 0, 2].into()).apply(&one.text).unwrap();
                prop_assert_eq!(&again.text, &one.text);
                prop_assert!(!again.mended);
                let gone = Change::Remove(name("web")).apply(&one.text).unwrap();
                prop_assert!(Change::Remove(name("web")).apply(&gone.text).unwrap().text == gone.text);
            }
        }
    }
}
