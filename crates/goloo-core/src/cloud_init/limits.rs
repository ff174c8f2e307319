//! How much user-data a provider takes.

use std::io::Write;

use flate2::{Compression, GzBuilder};

use super::problem;
use crate::record::ProviderKind;
use crate::spec::Problem;

/// EC2's limit, in bytes, before base64.
const EC2_MAX: usize = 16_384;

/// The longest argument that Linux takes, in bytes, less its end (`MAX_ARG_STRLEN`): on Multipass goloo's script is one.
pub(super) const ARGUMENT_MAX: usize = 131_071;

/// Why a script can't be a boot command.
pub(super) fn too_long_for_an_argument(length: usize) -> Problem {
    let message = format!(
        "with configure.sh goloo's boot command has {length} bytes, and Linux takes {ARGUMENT_MAX} for one command"
    );
    let hint = "make configure.sh smaller (have it fetch large files), or use --provider qemu";
    Problem { file: "configure.sh".to_owned(), ..problem(1, 1, message, hint) }
}

/// The user-data as the provider gets it: for EC2 compressed where it is too long otherwise, which
/// cloud-init undoes.
pub(super) fn fit(user_data: Vec<u8>, provider: ProviderKind) -> Result<Vec<u8>, Problem> {
    if provider != ProviderKind::Aws || user_data.len() <= EC2_MAX {
        return Ok(user_data);
    }
    let compressed = gzip(&user_data);
    if compressed.len() <= EC2_MAX {
        return Ok(compressed);
    }
    Err(problem(
        1,
        1,
        format!(
            "with goloo's part and configure.sh the user-data has {} bytes after gzip, and EC2 takes {EC2_MAX}",
            compressed.len()
        ),
        "fetch large files from the machine (wget in runcmd, or #include) instead of writing them here",
    ))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    // No time stamp: the same input gives the same bytes.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("a vector takes all bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ec2_gets_what_fits_and_compressed_what_fits_then() {
        let repeated = vec![b'x'; EC2_MAX + 1];
        assert_eq!(fit(repeated.clone(), ProviderKind::Qemu).unwrap(), repeated);
        assert_eq!(fit(vec![b'x'; EC2_MAX], ProviderKind::Aws).unwrap().len(), EC2_MAX);
        assert_eq!(fit(repeated, ProviderKind::Aws).unwrap()[..2], [0x1f, 0x8b]);
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let problem = fit(noise.take(EC2_MAX + 1).collect(), ProviderKind::Aws).unwrap_err();
        assert!(problem.message.contains("EC2 takes 16384"), "{problem}");
    }
}
