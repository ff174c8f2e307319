//! Values that must not be printed.
//!
//! They have neither `Display` nor `Serialize`, so nothing that contains one can derive either. The one file
//! format that needs the value is written in [`crate::record::to_json`].

use std::fmt;

use serde::Deserialize;

/// A private SSH key in OpenSSH's PEM form.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Wraps a text that is a private key, or will be parsed as one.
    pub fn new(openssh: String) -> Self {
        Self(openssh)
    }

    /// The key itself: for the machine, a file of mode 0600, or the store.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a type that implements the trait, `method` is ambiguous, so this doesn't compile.
    macro_rules! assert_not_implemented {
        ($type:ty, $trait:path) => {{
            trait Probe<Marker> {
                fn method() {}
            }
            impl<T: ?Sized> Probe<()> for T {}
            impl<T: ?Sized + $trait> Probe<u8> for T {}
            <$type as Probe<_>>::method();
        }};
    }

    #[test]
    fn a_private_key_implements_neither_serialize_nor_display() {
        assert_not_implemented!(PrivateKey, serde::Serialize);
        assert_not_implemented!(PrivateKey, fmt::Display);
        assert_not_implemented!(crate::record::CreateInputs, serde::Serialize);
        assert_not_implemented!(crate::host_key::HostKey, serde::Serialize);
    }

    #[test]
    fn debug_output_omits_a_private_key() {
        let key = PrivateKey::new("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned());
        assert_eq!(format!("{key:?}"), "PrivateKey(...)");
        assert!(!format!("{:#?}", Some(&key)).contains("BEGIN"));
    }
}
