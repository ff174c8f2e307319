//! A launch in progress: the client that waits for it. The daemon does the work, whatever happens to the client.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::Stdio;

use tokio::process::Child;

use crate::cli::Cli;
use crate::errors::{CallError, Refusal};

/// The maximum amount of a client's standard error that is read, in bytes.
const STDERR_MAX: u64 = 64 << 10;

/// The client of one `multipass launch`. Dropping it doesn't kill the client: that would abort the image's download.
pub(crate) struct Launch {
    child: Child,
    stderr: File,
    ended: Option<Result<(), CallError>>,
}

impl Launch {
    /// Starts the client. Its standard output is a spinner and is discarded; its standard error goes to an unnamed
    /// file, so that the client can outlive goloo.
    pub(crate) fn start(cli: &Cli, argv: &[OsString], user_data: File) -> Result<Self, CallError> {
        let broken = |source| cli.cannot_run(source);
        let stderr = tempfile::tempfile().map_err(broken)?;
        let child = cli
            .command(argv)
            .stdin(Stdio::from(user_data))
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().map_err(broken)?)
            .spawn()
            .map_err(broken)?;
        Ok(Self { child, stderr, ended: None })
    }

    /// The result; `None` while the launch is in progress.
    pub(crate) fn outcome(&mut self) -> io::Result<Option<&Result<(), CallError>>> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            let mut said = Vec::new();
            self.stderr.rewind()?;
            (&self.stderr).take(STDERR_MAX).read_to_end(&mut said)?;
            self.ended = Some(match status.code() {
                Some(0) => Ok(()),
                code => {
                    let refusal = Refusal::of(code, "", &String::from_utf8_lossy(&said));
                    Err(CallError::Refused { command: "launch", refusal })
                }
            });
        }
        Ok(self.ended.as_ref())
    }

    /// The error, if the launch failed.
    pub(crate) fn into_failure(self) -> Option<CallError> {
        self.ended.and_then(Result::err)
    }
}
