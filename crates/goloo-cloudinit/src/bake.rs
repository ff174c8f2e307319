//! Baked images: what decides whether a machine can be made from one, and the script that prepares a machine to become
//! one.

use goloo_model::record::Digest;
use goloo_model::spec::Diagnostic;

use crate::compose::{ComposeInput, compose};
use crate::script::squeezed;

/// The format of the keys, and of what the script leaves in an image. Another number makes all images unusable.
const FORMAT: &str = "baked image 2";

const GENERALIZE: &str = include_str!("guest/generalize.sh");

/// The key of an image that is baked of this machine: the same for all machines whose provisioning is the same, whatever
/// their names, host keys and TTLs. `base` is the digest or the id of the image that it begins with.
///
/// # Errors
/// As [`compose`].
pub fn bake_key(input: &ComposeInput<'_>, base: &str) -> Result<Digest, Vec<Diagnostic>> {
    let mut stack = input.stack.clone();
    stack.ttl = None;
    let neutral = ComposeInput { stack: &stack, client_key: "", host_key: None, ..*input };
    let user_data = compose(&neutral)?.user_data;
    let provider = input.provider.id.to_string();
    Ok(Digest::of_parts(&[FORMAT.as_bytes(), provider.as_bytes(), base.as_bytes(), &user_data]))
}

/// The script that removes from a machine what belongs to it alone. It runs as root, and can run again.
pub fn generalize_script() -> String {
    squeezed(GENERALIZE)
}
