//! The arguments of a launch, built and checked before anything is created.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use goloo_model::name::VmName;
use goloo_model::provider::{Machine, ProviderError, ProviderPlan};
use goloo_model::spec::{ImageRef, Mount, ResolvedStack, Size};
use goloo_model::url_path::url_path;

/// The minimum memory in Multipass 1.13 to 1.16. Later versions require 512M and 1G, and say so.
const MEMORY_MIN: Size = Size::bytes(128 << 20);
const DISK_MIN: Size = Size::bytes(512 << 20);

/// The arguments of `multipass launch`; the cloud-init document is passed on standard input.
pub(crate) fn launch(machine: &Machine) -> Result<Vec<OsString>, ProviderError> {
    let stack = &machine.stack;
    at_least("memory", stack.memory, MEMORY_MIN)?;
    at_least("disk", stack.disk, DISK_MIN)?;
    let option = |name: &str, value: String| [name.into(), value.into()];
    let mut argv: Vec<OsString> = vec!["launch".into(), image(stack)?];
    argv.extend(option("--name", machine.machine_name.to_string()));
    argv.extend(option("--cpus", stack.cpus.to_string()));
    argv.extend(option("--memory", size(stack.memory)));
    argv.extend(option("--disk", size(stack.disk)));
    argv.extend(option("--cloud-init", "-".to_owned()));
    Ok(argv)
}

/// Formats a size in Multipass's syntax, which has no T.
pub(crate) fn size(size: Size) -> String {
    let bytes = size.as_bytes();
    if bytes.is_multiple_of(1 << 20) { format!("{}M", bytes >> 20) } else { bytes.to_string() }
}

fn at_least(what: &str, given: Size, least: Size) -> Result<(), ProviderError> {
    if given >= least {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("vm.{what} is {given}, but Multipass requires at least {least}"),
        hint: format!("write \"{what}\": \"{least}\" or more").into(),
    })
}

fn image(stack: &ResolvedStack) -> Result<OsString, ProviderError> {
    match &stack.image {
        ImageRef::Alias(name) => match name.strip_prefix("ubuntu-") {
            Some(version) => Ok(version.into()),
            None => Err(ProviderError::Unsupported {
                what: format!("Multipass has no image {name}: it only has Ubuntu images"),
                hint: "write \"image\": \"24.04\", use the URL of an image, or use --provider qemu".into(),
            }),
        },
        ImageRef::Path(path) => {
            // The daemon decodes it as a URL: a bare `#` or `%41` would refer to another file.
            let path = url_path(path.as_os_str().as_bytes());
            Ok(format!("file://{path}").into())
        }
        ImageRef::Url(url) => Ok(url.into()),
    }
}

/// The plan, for `--dry-run`.
pub(crate) fn plan(machine: &Machine) -> Result<ProviderPlan, ProviderError> {
    let argv = launch(machine)?;
    let stack = &machine.stack;
    refuse_readonly(&stack.mounts)?;
    let mut steps = vec![
        format!(
            "launch {} with {} vCPU, {} of RAM and a disk of {} from {}; Multipass downloads the image",
            machine.machine_name, stack.cpus, stack.memory, stack.disk, stack.image_text
        ),
        "wait until it has an address".to_owned(),
    ];
    let mount = |mount: &Mount| format!("mount {} as {}", mount.source.display(), mount.target);
    steps.extend(stack.mounts.iter().map(mount));
    let words = std::iter::once("multipass".to_owned())
        .chain(argv.iter().map(|word| word.to_string_lossy().into_owned()));
    let detail = serde_json::json!({
        "argv": words.collect::<Vec<_>>(),
        "cloudInit": String::from_utf8_lossy(&machine.user_data),
    });
    Ok(ProviderPlan { steps, warnings: warnings(stack), detail })
}

fn warnings(stack: &ResolvedStack) -> Vec<String> {
    let mut warnings = Vec::new();
    if stack.image_sha256.is_some() {
        warnings.push("vm.image_sha256 isn't checked: Multipass downloads the image itself".to_owned());
    }
    if let ImageRef::Path(path) = &stack.image
        && is_out_of_the_snap_s_sight(path)
    {
        warnings.push(format!(
            "the Multipass snap can't read {}: it can't access /tmp and hidden folders",
            path.display()
        ));
    }
    warnings
}

fn is_out_of_the_snap_s_sight(path: &Path) -> bool {
    let is_hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
    cfg!(target_os = "linux") && (path.starts_with("/tmp") || path.components().any(is_hidden))
}

/// Multipass gives its machines write access to every folder.
fn refuse_readonly(mounts: &[Mount]) -> Result<(), ProviderError> {
    let Some(mount) = mounts.iter().find(|mount| mount.readonly) else { return Ok(()) };
    Err(ProviderError::Unsupported {
        what: format!("Multipass can't share {} read-only (vm.mounts)", mount.source.display()),
        hint: "use another provider, or remove \"readonly\" if the machine may write there".into(),
    })
}

/// Folders to be mounted must exist before a machine is created for them.
pub(crate) fn check_mounts(mounts: &[Mount]) -> Result<(), ProviderError> {
    refuse_readonly(mounts)?;
    let Some(gone) = mounts.iter().find(|mount| !mount.source.is_dir()) else { return Ok(()) };
    let source = gone.source.display();
    Err(ProviderError::failed(
        format!("the folder {source} that the machine shares doesn't exist"),
        format!("mkdir -p {source}, or change vm.mounts"),
    ))
}

/// A launch under the primary instance's name would mount the user's home folder in it.
pub(crate) fn refuse_primary(name: &VmName, primary: Option<&str>) -> Result<(), ProviderError> {
    if primary != Some(name.as_str()) {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!(
            "\"{name}\" is the name of Multipass's primary instance, in which it would mount your home folder"
        ),
        hint: format!(
            "use another name, for example --as {}, or another primary name: multipass set client.primary-name=...",
            name.second()
        )
        .into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_use_only_units_that_multipass_supports() {
        assert_eq!(size(Size::gib(1024)), "1048576M");
        assert_eq!(size(Size::bytes(512 << 20)), "512M");
        assert_eq!(size(Size::bytes((1 << 30) + 1)), "1073741825");
    }

    #[test]
    fn hidden_folders_and_tmp_are_inaccessible_to_the_snap() {
        for hidden in ["/tmp/x.img", "/home/ann/.cache/x.img"] {
            assert_eq!(is_out_of_the_snap_s_sight(Path::new(hidden)), cfg!(target_os = "linux"), "{hidden}");
        }
        assert!(!is_out_of_the_snap_s_sight(Path::new("/home/ann/tmp/x.img")));
    }

    #[test]
    fn an_image_path_is_percent_encoded_as_a_file_url() {
        let stack = |path: &str| ResolvedStack {
            image: ImageRef::Path(path.into()),
            ..goloo_testkit::provider_suite::machine("a", ImageRef::Path(path.into()), b"").stack
        };
        let url = |path: &str| image(&stack(path)).unwrap();
        assert_eq!(url("/images/disk-1.2_a.img"), "file:///images/disk-1.2_a.img");
        assert_eq!(url("/images/a#b %41?.img"), "file:///images/a%23b%20%2541%3F.img");
    }
}
