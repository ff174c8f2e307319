//! The supervisor process alone, for this crate's tests. Real machines use `goloo` itself.

fn main() -> std::process::ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    goloo_qemu::answer(&argv).unwrap_or(std::process::ExitCode::FAILURE)
}
