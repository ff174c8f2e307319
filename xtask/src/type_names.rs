//! A public type's name means one thing in the workspace: a reader who meets it need not look up the crate.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::targets;

/// Packages whose types are no API: the command's have an `Args` for each subcommand, and the test kit's are named with
/// their modules.
const NOT_COVERED: [&str; 2] = ["goloo-cli", "goloo-testkit"];

/// Names of several types, with the reason.
const SHARED: [(&str, &str); 7] = [
    ("AddressError", "of a store's address, and of one value in a bucket's settings"),
    ("ClientKey", "the public half, and the private one as a backup holds it"),
    ("Folder", "the state folder's open operations, and any folder that is held open"),
    ("Limits", "each crate that waits has one; always named with its crate"),
    ("Machine", "a VM at its provider, and in goloo-store this computer with its boot"),
    ("Options", "of stores on this computer, and of stores in buckets"),
    ("Settings", "the user's, and one for each provider, named with its crate"),
];

#[test]
fn public_types_have_different_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let targets = targets(root);
    let covered = targets.iter().filter(|target| !NOT_COVERED.contains(&target.package.as_str()));
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in covered.flat_map(|target| &target.files) {
        for name in &file.types {
            places.entry(name).or_default().push(file.path.display().to_string());
        }
    }
    places.retain(|_, files| files.len() > 1);
    let unused: Vec<&str> =
        SHARED.iter().map(|(name, _)| *name).filter(|name| places.remove(name).is_none()).collect();
    assert!(places.is_empty(), "types of the same name; rename one, or give a reason: {places:#?}");
    assert!(unused.is_empty(), "these names are unique now: {unused:?}");
}
