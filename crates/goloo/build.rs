//! How the command is linked.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of_target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    // At a fixed address there is nothing to relocate at every start: 54,000 addresses in 190 pages, most of
    // them AWS's, which is a third of the time that `goloo --version` takes. Go links its programs so too.
    let is_static = of_target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if of_target("OS") == "linux" && of_target("ENV") == "gnu" && !is_static {
        println!("cargo:rustc-link-arg-bin=goloo=-no-pie");
    }
}
