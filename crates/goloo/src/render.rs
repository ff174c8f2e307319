//! Renders stack templates in a separate process: it is killed if it exceeds its limits, and a stack overflow in it
//! doesn't crash goloo.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use goloo_cloudinit::{Template, TemplateRenderer};
use goloo_command::{Finished, Limits, RunError};
use goloo_model::spec::Diagnostic;
use goloo_sys::confine::{OwnLimits, confine};

/// The first argument of the rendering process. It is internal, not a command.
const RENDER: &str = "__render-template";

/// The answer is a document of at most 1 MiB as JSON, where a character may take six bytes. The time limit is far above
/// [`OWN_LIMITS`], to allow for busy computers.
const LIMITS: Limits = Limits { time: Duration::from_secs(15), stdout: 8 << 20, stderr: 4 << 10 };

/// Ordinary templates take a few milliseconds and a few megabytes. The process enforces these limits itself, so they
/// still apply if goloo dies first.
const OWN_LIMITS: OwnLimits = OwnLimits { memory: 1 << 30, cpu: 5 };

/// The answer of the process.
type Answer = Result<String, Vec<Diagnostic>>;

/// Renders in a child process that runs this program.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRenderer;

impl TemplateRenderer for ProcessRenderer {
    fn render(&self, template: &Template) -> Answer {
        let request = serde_json::to_vec(template).expect("a template has only string keys");
        match ask(&request) {
            Ok(finished) => answer_of(&finished),
            Err(RunError::TimedOut { .. } | RunError::TooMuch { .. }) => Err(vec![Template::too_costly()]),
            Err(error) => {
                let hint = error.shortage_hint().unwrap_or("run the command again");
                Err(vec![Template::not_rendered(&error.to_string(), hint)])
            }
        }
    }
}

fn ask(request: &[u8]) -> Result<Finished, RunError> {
    let (stdin, mut pipe) = io::pipe().map_err(RunError::Start)?;
    let mut command = Command::new(std::env::current_exe().map_err(RunError::Start)?);
    command.arg(RENDER).stdin(Stdio::from(stdin));
    thread::scope(|scope| {
        let writer = thread::Builder::new();
        // If the process exits before it has read everything, its exit status tells why.
        writer.spawn_scoped(scope, move || drop(pipe.write_all(request))).map_err(RunError::Start)?;
        goloo_command::run_blocking(command, LIMITS)
    })
}

fn answer_of(finished: &Finished) -> Answer {
    if finished.status.signal().is_some() {
        return Err(vec![Template::too_costly()]);
    }
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|_| {
        let reason = format!("no answer ({})", finished.status);
        Err(vec![Template::not_rendered(&reason, "run the command again")])
    })
}

/// Runs the rendering process if the command line `argv` (program name first) asks for it.
pub fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let [_, first] = argv else { return None };
    if first != RENDER {
        return None;
    }
    confine(OWN_LIMITS);
    Some(if render_stdin().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render_stdin() -> io::Result<()> {
    let template: Template = serde_json::from_reader(io::BufReader::new(io::stdin().lock()))?;
    let mut stdout = io::stdout();
    stdout.write_all(&serde_json::to_vec(&template.render())?)?;
    stdout.flush()
}
