//! Programs that can't be started because a system resource is exhausted, which isn't the program's fault.

use std::io;

use rustix::io::Errno;

/// What to do about it; `None` for any other error.
pub fn shortage_hint(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::AGAIN => Some(
            "stop programs that you don't need, or raise the limit on processes (ulimit -u), then try again",
        ),
        Errno::NOMEM => Some("free memory, then try again"),
        Errno::MFILE => Some("raise the limit on open files (ulimit -n), then try again"),
        Errno::NFILE => Some("the system's limit on open files is reached: stop programs, then try again"),
        Errno::TOOBIG => {
            Some("the arguments and the environment are too long: unset large variables, then try again")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_not_a_resource_shortage() {
        assert_eq!(shortage_hint(&io::ErrorKind::NotFound.into()), None);
        assert_eq!(shortage_hint(&Errno::NOENT.into()), None);
        assert!(shortage_hint(&Errno::AGAIN.into()).is_some_and(|hint| hint.contains("ulimit -u")));
        assert!(shortage_hint(&Errno::TOOBIG.into()).is_some_and(|hint| hint.contains("environment")));
    }
}
