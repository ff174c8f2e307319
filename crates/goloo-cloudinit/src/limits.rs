//! The providers' limits on user-data.

use crate::diagnostic::diagnostic;
use std::io::Write;

use flate2::{Compression, GzBuilder};

use goloo_model::provider_info::UserDataLimit;
use goloo_model::spec::Diagnostic;

/// The maximum nesting depth; PyYAML can't load more either, since it is recursive.
pub(super) const DEPTH_MAX: usize = 200;
/// Linux's maximum argument length in bytes, without the terminator (`MAX_ARG_STRLEN`): limits the script on Multipass.
pub(super) const ARGUMENT_MAX: usize = 131_071;

/// Why a script is too long for a boot command.
pub(super) fn too_long_for_an_argument(length: usize) -> Diagnostic {
    let message = format!(
        "goloo's boot command with configure.sh has {length} bytes, and Linux allows {ARGUMENT_MAX} for one command"
    );
    let hint = "make configure.sh smaller (have it fetch large files), or use --provider qemu";
    Diagnostic { file: "configure.sh".to_owned(), ..diagnostic(1, 1, message, hint) }
}

/// The user-data as the provider gets it: compressed where it is too long otherwise, which cloud-init undoes.
pub(super) fn fit(user_data: Vec<u8>, limit: Option<UserDataLimit>) -> Result<Vec<u8>, Diagnostic> {
    let Some(UserDataLimit { bytes, of }) = limit.filter(|limit| user_data.len() > limit.bytes) else {
        return Ok(user_data);
    };
    let compressed = gzip(&user_data);
    if compressed.len() <= bytes {
        return Ok(compressed);
    }
    Err(diagnostic(
        1,
        1,
        format!(
            "the user data with goloo's part and configure.sh has {} bytes after gzip, and {of} allows {bytes}",
            compressed.len()
        ),
        "fetch large files from the machine (wget in runcmd, or #include) instead of writing them here",
    ))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    // No time stamp, so that the output is deterministic.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("a vector takes all bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EC2_MAX: usize = 16_384;
    const EC2: Option<UserDataLimit> = Some(UserDataLimit { bytes: EC2_MAX, of: "EC2" });

    #[test]
    fn user_data_for_ec2_is_compressed_when_too_large_and_refused_beyond_that() {
        let repeated = vec![b'x'; EC2_MAX + 1];
        assert_eq!(fit(repeated.clone(), None).unwrap(), repeated);
        assert_eq!(fit(vec![b'x'; EC2_MAX], EC2).unwrap().len(), EC2_MAX);
        assert_eq!(fit(repeated, EC2).unwrap()[..2], [0x1f, 0x8b]);
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let diagnostic = fit(noise.take(EC2_MAX + 1).collect(), EC2).unwrap_err();
        assert!(diagnostic.message.contains("EC2 allows 16384"), "{diagnostic}");
    }
}
