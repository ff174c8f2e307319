//! The process beside QEMU alone, for the tests of this crate. `goloo` itself is the one that machines have.

fn main() -> std::process::ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    goloo_qemu::answer(&argv).unwrap_or(std::process::ExitCode::FAILURE)
}
