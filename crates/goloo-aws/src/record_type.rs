//! The types of DNS records that goloo makes.

/// A record's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordType {
    /// A name with an address.
    A,
    /// An alias for another name.
    Cname,
}

impl RecordType {
    /// Route 53's name of the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Cname => "CNAME",
        }
    }

    /// Parses Route 53's name of the type.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::A, Self::Cname].into_iter().find(|kind| kind.as_str() == word)
    }
}
