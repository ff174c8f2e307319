//! `--log` and `GOLOO_LOG`: the diagnostic log. Only goloo's own crates are logged: the AWS SDK would log whole
//! requests with their contents.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::error::CliError;
use crate::options::LogLevel;
use crate::output::{Ui, one_line};

const LEVEL: &str = "GOLOO_LOG";
const FILE: &str = "GOLOO_LOG_FILE";

/// Starts logging if the command line or the environment asks for it.
///
/// # Errors
/// When the level is invalid, or the file can't be opened.
pub fn start(ui: &Ui, level: Option<LogLevel>, file: Option<PathBuf>) -> Result<(), CliError> {
    let Some(level) = level.map_or_else(level_from_env, |level| Ok(Some(level)))? else { return Ok(()) };
    let file = file.or_else(|| env::var_os(FILE).filter(|value| !value.is_empty()).map(PathBuf::from));
    let writer = match file {
        Some(path) => LogWriter::file(open(&path)?),
        None => LogWriter::stderr(ui.clone()),
    };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let subscriber =
        tracing_subscriber::registry().with(Targets::new().with_target("goloo", filter(level))).with(layer);
    // Can't fail: it is set only once, by `main`.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

fn level_from_env() -> Result<Option<LogLevel>, CliError> {
    let Some(text) = env::var_os(LEVEL).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = text.to_string_lossy();
    LogLevel::from_str(&text, true).map(Some).map_err(|_| {
        CliError::usage(
            format!("{LEVEL} is \"{text}\", which is not a log level"),
            "set it to error, warn, info, debug or trace, or unset it",
        )
    })
}

fn open(path: &Path) -> Result<File, CliError> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|error| CliError::cannot("write the log to", path, &error))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Expects one line of the log per write.
#[derive(Clone)]
pub struct LogWriter(Target);

#[derive(Clone)]
enum Target {
    Stderr(Ui),
    File(Arc<Mutex<File>>),
}

impl LogWriter {
    /// To standard error, above the progress line.
    pub fn stderr(ui: Ui) -> Self {
        Self(Target::Stderr(ui))
    }

    /// To a file.
    pub fn file(file: File) -> Self {
        Self(Target::File(Arc::new(Mutex::new(file))))
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = one_line(text.trim_end());
        match &self.0 {
            Target::Stderr(ui) => ui.log_line(&text),
            Target::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(&[text.as_bytes(), b"\n"].concat())?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
