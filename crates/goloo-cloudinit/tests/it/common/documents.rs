//! Generates cloud-config documents of all forms from a sequence of numbers: the same sequence gives the same document,
//! and a shorter sequence or smaller numbers a simpler one, so that proptest can shrink failures.

use proptest::prelude::*;

/// Random documents.
pub fn document() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u16>(), 0..300).prop_map(|choices| {
        Writer { choices: choices.into_iter(), text: String::new(), anchors: 0 }.document()
    })
}

const LISTS: [&str; 6] = ["runcmd", "write_files", "users", "bootcmd", "ssh_genkeytypes", "packages"];
const OTHERS: [&str; 5] = ["hostname", "custom", "größe", "final_message", "0644"];
/// Plain words that are valid anywhere, even in brackets.
const WORDS: [&str; 18] = [
    "a",
    "0644",
    "yes",
    "Off",
    "~",
    "1.5",
    "12:30:45",
    "2001-12-14",
    "echo hi",
    "http://x:80/a#b",
    "größe 😀",
    "-n",
    ".5",
    "0x1F",
    "1_000",
    "null",
    "a\"b'c",
    "--flag=x",
];
const DOUBLE: [&str; 7] =
    ["\"\"", "\"a: b # c\"", "\"tab\\tand \\u00e9\"", "\"a\\\"b\"", "\"]}, \"", "\"0644\"", "\"a\tb\""];
const SINGLE: [&str; 5] = ["''", "'it''s'", "'a # b: c'", "'yes'", "'[x'"];
const LINES: [&str; 7] = ["text", "# no comment", "k: v", "- dash", "größe \\ \"", "tab\there", "]"];

struct Writer {
    choices: std::vec::IntoIter<u16>,
    text: String,
    anchors: usize,
}

impl Writer {
    /// A choice of `count`; the first one at the end of the sequence.
    fn pick(&mut self, count: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.pick(count) == count - 1
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.pick(texts.len())].to_owned()
    }

    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn document(mut self) -> String {
        self.put("#cloud-config\n");
        self.between(0);
        if self.one_in(6) {
            let mark = self.one_of(&["---\n", "--- # start\n", "%YAML 1.1\n---\n"]);
            self.put(&mark);
            self.between(0);
        }
        let has_keys = !self.one_in(20);
        if has_keys && self.one_in(8) {
            self.braces(0, 0, Self::keys);
            self.put("\n");
        } else if has_keys {
            let indent = if self.one_in(5) { 2 } else { 0 };
            self.top_keys(indent);
        }
        if self.one_in(8) && has_keys {
            self.put("...\n");
        }
        let is_cut = self.one_in(4);
        let mut text = self.text;
        if is_cut {
            text.truncate(text.trim_end_matches('\n').len());
        }
        if self.choices.next().is_some_and(|choice| choice % 5 == 4) {
            text.replace('\n', "\r\n")
        } else {
            text
        }
    }

    /// The names of the document's keys, without duplicates.
    fn keys(&mut self) -> Vec<String> {
        let mut names: Vec<&str> = LISTS.into_iter().chain(OTHERS).chain(["ssh_keys"]).collect();
        let count = 1 + self.pick(6);
        (0..count).map(|_| names.remove(self.pick(names.len())).to_owned()).collect()
    }

    fn top_keys(&mut self, indent: usize) {
        for name in self.keys() {
            self.blanks(indent);
            let quoted = self.key(&name);
            self.put(&format!("{quoted}:"));
            if LISTS.contains(&name.as_str()) {
                self.list_value(indent);
            } else if name == "ssh_keys" {
                self.map_value(indent);
            } else {
                self.value(indent, 0);
            }
            self.between(indent);
        }
    }

    fn key(&mut self, name: &str) -> String {
        match self.pick(8) {
            6 => format!("\"{name}\""),
            7 => format!("'{name}' "),
            _ => name.to_owned(),
        }
    }

    fn list_value(&mut self, indent: usize) {
        match self.pick(6) {
            0 | 1 => self.next_line_list(indent, 0),
            2 => {
                self.put(" ");
                self.brackets(indent, 0);
                self.line_end();
            }
            3 => {
                let nothing = self.one_of(&["", " ~", " null", " []", " [ ]"]);
                self.put(&nothing);
                self.line_end();
            }
            _ => {
                self.line_end();
                self.block_list(indent, 0);
            }
        }
    }

    fn map_value(&mut self, indent: usize) {
        match self.pick(4) {
            0 | 1 => {
                self.line_end();
                let deeper = indent + 1 + self.pick(4);
                self.block_map(deeper, 1);
            }
            2 => {
                self.put(" ");
                self.braces(indent, 1, |writer| writer.names());
                self.line_end();
            }
            _ => {
                let nothing = self.one_of(&["", " ~", " {}", " { }"]);
                self.put(&nothing);
                self.line_end();
            }
        }
    }

    /// The value after a key's colon or a dash, including the line end.
    fn value(&mut self, indent: usize, depth: usize) {
        match self.pick(if depth < 3 { 9 } else { 6 }) {
            0 => self.line_end(),
            1 | 2 => {
                let scalar = self.scalar();
                self.put(&format!(" {scalar}"));
                self.line_end();
            }
            3 => self.long_scalar(indent),
            4 | 5 => self.block_text(indent),
            6 => {
                self.put(" ");
                self.brackets(indent, depth);
                self.line_end();
            }
            7 => self.next_line_list(indent + 1, depth + 1),
            _ => {
                self.line_end();
                let deeper = indent + 1 + self.pick(3);
                self.block_map(deeper, depth + 1);
            }
        }
    }

    fn scalar(&mut self) -> String {
        let scalar = match self.pick(4) {
            0 | 1 => self.one_of(&WORDS),
            2 => self.one_of(&DOUBLE),
            _ => self.one_of(&SINGLE),
        };
        match self.pick(8) {
            6 => {
                self.anchors += 1;
                format!("&a{} {scalar}", self.anchors)
            }
            7 if self.anchors > 0 => format!("*a{} ", 1 + self.pick(self.anchors)).trim_end().to_owned(),
            _ => scalar,
        }
    }

    /// A scalar over several lines, plain or quoted.
    fn long_scalar(&mut self, indent: usize) {
        let pad = " ".repeat(indent + 1 + self.pick(3));
        let gap = if self.one_in(3) { "\n\n" } else { "\n" };
        let (open, close) = [("", ""), ("\"", "\""), ("'", "'")][self.pick(3)];
        self.put(&format!(" {open}some words{gap}{pad}and more{close}"));
        self.line_end();
    }

    fn block_text(&mut self, indent: usize) {
        let style = self.one_of(&["|", ">"]);
        let chomping = self.one_of(&["", "-", "+"]);
        let step = 1 + self.pick(4);
        let is_told = self.one_in(3);
        let told = if is_told { step.to_string() } else { String::new() };
        let header = if self.one_in(2) { format!("{told}{chomping}") } else { format!("{chomping}{told}") };
        self.put(&format!(" {style}{header}"));
        if self.one_in(4) {
            self.put(" # header");
        }
        self.put("\n");
        let pad = " ".repeat(indent + step);
        for number in 0..self.pick(4) {
            let line = self.one_of(&LINES);
            let more = if (number > 0 || is_told) && self.one_in(4) { "  " } else { "" };
            let empty = if self.one_in(5) { "\n" } else { "" };
            self.put(&format!("{empty}{pad}{more}{line}\n"));
        }
        let empty = "\n".repeat(self.pick(6).saturating_sub(3));
        self.put(&empty);
    }

    fn next_line_list(&mut self, indent: usize, depth: usize) {
        self.line_end();
        let deeper = indent + self.pick(4);
        self.block_list(deeper, depth);
    }

    fn block_list(&mut self, indent: usize, depth: usize) {
        for _ in 0..=self.pick(3) {
            self.blanks(indent);
            self.put("-");
            match self.pick(8) {
                6 if depth < 3 => {
                    self.put(" - x\n");
                    self.blanks(indent + 2);
                    self.put("-");
                    self.value(indent + 2, depth + 1);
                }
                7 if depth < 3 => {
                    self.put(" path: x\n");
                    self.block_map(indent + 2, depth + 1);
                }
                _ => self.value(indent, depth),
            }
            self.between(indent);
        }
    }

    fn names(&mut self) -> Vec<String> {
        let count = self.pick(3);
        ["rsa_private", "b", "c d"][..=count].iter().map(|name| (*name).to_owned()).collect()
    }

    fn block_map(&mut self, indent: usize, depth: usize) {
        for name in self.names() {
            self.blanks(indent);
            let key = self.key(&name);
            self.put(&format!("{key}:"));
            self.value(indent, depth);
            self.between(indent);
        }
    }

    fn brackets(&mut self, indent: usize, depth: usize) {
        self.put("[");
        let count = self.pick(4);
        for number in 0..count {
            self.space(indent);
            if self.one_in(6) {
                self.put("pair: ");
            }
            self.flow_value(indent, depth);
            self.space(indent);
            if number + 1 < count || self.one_in(4) {
                self.put(",");
            }
        }
        self.space(indent);
        self.put("]");
    }

    fn braces(&mut self, indent: usize, depth: usize, names: impl Fn(&mut Self) -> Vec<String>) {
        self.put("{");
        let names = names(self);
        for (number, name) in names.iter().enumerate() {
            self.space(indent);
            let key = self.key(name);
            self.put(&format!("{key}: "));
            match name.as_str() {
                list if LISTS.contains(&list) => self.brackets(indent, depth + 1),
                "ssh_keys" => self.braces(indent, depth + 1, Self::names),
                _ => self.flow_value(indent, depth + 1),
            }
            self.space(indent);
            if number + 1 < names.len() || self.one_in(4) {
                self.put(",");
            }
        }
        self.space(indent);
        self.put("}");
    }

    fn flow_value(&mut self, indent: usize, depth: usize) {
        match self.pick(if depth < 3 { 6 } else { 4 }) {
            4 => self.brackets(indent, depth + 1),
            5 => self.braces(indent, depth + 1, Self::names),
            _ => {
                let scalar = self.scalar();
                self.put(&scalar);
            }
        }
    }

    /// Optional space between the parts of a flow collection.
    fn space(&mut self, indent: usize) {
        let pad = " ".repeat(indent + 1 + self.pick(3));
        match self.pick(9) {
            5 => self.put(&format!("\n{pad}")),
            6 => self.put(&format!(" # a, b] }}\n{pad}")),
            8 => self.put("\n"),
            7 => self.put("  "),
            _ => self.put(" "),
        }
    }

    /// A line end, with an optional comment.
    fn line_end(&mut self) {
        let end = self.one_of(&["\n", "\n", "\n", " # c: [\n", "  \n"]);
        self.put(&end);
    }

    /// Comments and blank lines between the parts of a block collection.
    fn between(&mut self, indent: usize) {
        for _ in 0..self.pick(6).saturating_sub(3) {
            if self.one_in(2) {
                self.put("\n");
            } else {
                self.blanks(indent);
                self.put("# - k: v\n");
            }
        }
    }

    fn blanks(&mut self, count: usize) {
        self.put(&" ".repeat(count));
    }
}
