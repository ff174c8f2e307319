//! Lines from pieces of a stream, each with a limit on its length.

use super::OnLine;

/// Makes lines of pieces.
#[derive(Debug)]
pub struct Lines {
    /// A line that isn't complete yet.
    partial: Vec<u8>,
    max: usize,
    has_begun: bool,
}

impl Lines {
    /// With at most so many bytes in a line.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max, has_begun: false }
    }

    /// Takes the next piece and hands on the lines that it completes.
    pub fn take(&mut self, mut piece: &[u8], line: &mut OnLine<'_>) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.add(&piece[..end]);
            self.has_begun = true;
            self.end(line);
            piece = &piece[end + 1..];
        }
        self.add(piece);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.max.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.has_begun |= !bytes.is_empty();
    }

    /// Hands on the last line, which has no end.
    pub fn end(&mut self, line: &mut OnLine<'_>) {
        if std::mem::take(&mut self.has_begun) {
            line(String::from_utf8_lossy(&self.partial).trim_end_matches('\r'));
            self.partial.clear();
        }
    }
}
