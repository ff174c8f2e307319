//! Splits a stream of chunks into lines of limited length.

/// Receives each line as it arrives, without its terminator. Invalid UTF-8 is replaced.
pub type OnOutputLine<'a> = dyn FnMut(&str) + Send + 'a;

/// Splits chunks into lines.
#[derive(Debug)]
pub struct Lines {
    /// The incomplete last line.
    partial: Vec<u8>,
    max: usize,
    has_begun: bool,
}

impl Lines {
    /// With a maximum number of bytes per line.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max, has_begun: false }
    }

    /// Adds the next chunk and passes on the lines that it completes.
    pub fn take(&mut self, mut piece: &[u8], line: &mut OnOutputLine<'_>) {
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

    /// Passes on the last line, which has no terminator.
    pub fn end(&mut self, line: &mut OnOutputLine<'_>) {
        if std::mem::take(&mut self.has_begun) {
            line(String::from_utf8_lossy(&self.partial).trim_end_matches('\r'));
            self.partial.clear();
        }
    }
}
