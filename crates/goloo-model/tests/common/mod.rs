//! Shared code of the stack tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use goloo_model::spec::{Diagnostic, Resolved, Sources, resolve};

pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE ann@laptop";

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Sources of a stack "web" that consists only of this config.
pub fn sources(config: &str) -> Sources<'_> {
    Sources {
        given: "web",
        as_name: None,
        stack: "web",
        folder: Path::new("/stacks/web"),
        config: config.as_bytes(),
        cloud_init: None,
        configure: None,
        home: Path::new("/home/ann"),
        auto_ports: false,
        sections: &[],
    }
}

pub fn resolved(config: &str) -> Resolved {
    resolve(&sources(config)).unwrap_or_else(|diagnostics| panic!("{}", lines(&diagnostics)))
}

/// The problems, one per line.
pub fn lines(diagnostics: &[Diagnostic]) -> String {
    let line = |diagnostic: &Diagnostic| {
        assert!(!diagnostic.hint.is_empty() && !diagnostic.message.is_empty(), "{diagnostic:?}");
        format!(
            "{}:{}:{}: {}: {} ({})\n",
            diagnostic.file,
            diagnostic.line,
            diagnostic.column,
            diagnostic.pointer,
            diagnostic.message,
            diagnostic.hint.debug_text()
        )
    };
    diagnostics.iter().map(line).collect()
}

/// The problems of an invalid config.
pub fn refused(config: &str) -> String {
    match resolve(&sources(config)) {
        Ok(_) => "(taken)\n".to_owned(),
        Err(diagnostics) => lines(&diagnostics),
    }
}
