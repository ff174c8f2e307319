//! A machine's memory in a file: what QEMU sends when it migrates a machine, compressed.
//!
//! QEMU can't write such a file itself: it may not start programs ([`crate::args::SANDBOX`]), and versions before 8.2
//! only migrate to programs and sockets. So goloo is the other end of a socket in the machine's folder. The file has the
//! contents of the guest's memory, thus its secrets: only its owner can read it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use goloo_model::provider::Work;
use goloo_sys::durable;
use goloo_sys::socket_path::SocketPath;
use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};
use serde_json::json;
use tokio::net::UnixListener;

use crate::args::MEMORY_SOCKET;
use crate::qmp::{self, Migration, QmpError};

/// How often QEMU is asked whether a migration has ended.
const POLL: Duration = Duration::from_millis(20);
/// Reading and writing in large pieces.
const BUFFER: usize = 1 << 20;
/// The guest is paused meanwhile, so nothing is gained by a limit. In bytes per second.
const BANDWIDTH: u64 = 1 << 40;

/// Why a machine's memory wasn't saved or loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// QEMU refuses it, for a reason that it gives.
    #[error("QEMU refuses it: {0}")]
    Blocked(String),
    /// QEMU gave up.
    #[error("QEMU failed: {0}")]
    Failed(String),
    /// The control socket failed.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The file or the socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Saves the memory of a paused machine in a file, durably. After an error there is no file.
pub(crate) async fn save(
    folder: &Path,
    file: &Path,
    limit: Duration,
    work: &mut dyn Work,
) -> Result<(), MemoryError> {
    let part = file.with_extension("part");
    durable::remove_if_there(&part)?;
    let saved = save_part(folder, &part, limit, work).await;
    if let Err(error) = saved {
        let _ = durable::remove_if_there(&part);
        return Err(error);
    }
    std::fs::rename(&part, file)?;
    if let Some(its_folder) = file.parent() {
        durable::sync_folder(its_folder)?;
    }
    Ok(())
}

async fn save_part(
    folder: &Path,
    part: &Path,
    limit: Duration,
    work: &mut dyn Work,
) -> Result<(), MemoryError> {
    durable::remove_if_there(&folder.join(MEMORY_SOCKET))?;
    let listener = UnixListener::bind(&SocketPath::of(folder, MEMORY_SOCKET)?)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    qmp::ask_with(folder, "migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH }), limit).await?;
    qmp::ask_with(folder, "migrate", json!({ "uri": format!("unix:{MEMORY_SOCKET}") }), limit).await?;
    let accepted = tokio::time::timeout(limit, listener.accept()).await;
    let Ok(accepted) = accepted else { return Err(why(folder, limit).await) };
    let stream = blocking(accepted?.0)?;
    let copying = tokio::task::spawn_blocking(move || compress(stream, to));
    let sent = until_ended(folder, limit, work).await;
    if sent.is_err() {
        // The copy ends when QEMU closes the socket.
        let _ = qmp::ask(folder, "migrate_cancel", limit).await;
    }
    let copied = copying.await.map_err(io::Error::other)?;
    match (sent, copied) {
        // Where the file can't be written, QEMU only sees that nobody reads any more.
        (Err(MemoryError::Failed(_)) | Ok(()), Err(error)) => Err(error.into()),
        (sent, _) => sent,
    }
}

/// Why QEMU doesn't connect.
async fn why(folder: &Path, limit: Duration) -> MemoryError {
    match qmp::migration(folder, limit).await {
        Ok(Migration::Failed(reason)) => MemoryError::Failed(reason),
        Ok(_) => QmpError::Silent { limit }.into(),
        Err(error) => error.into(),
    }
}

async fn until_ended(folder: &Path, limit: Duration, work: &mut dyn Work) -> Result<(), MemoryError> {
    loop {
        match qmp::migration(folder, limit).await? {
            Migration::Completed => return Ok(()),
            Migration::Failed(reason) => return Err(MemoryError::Failed(reason)),
            Migration::Active => {}
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = work.interruption() => return Err(MemoryError::Interrupted),
        }
    }
}

/// Loads a file into a QEMU that was started to receive it. The machine is paused afterwards.
pub(crate) async fn load(
    folder: &Path,
    file: &Path,
    limit: Duration,
    patience: Duration,
    work: &mut dyn Work,
) -> Result<(), MemoryError> {
    let from = File::open(file)?;
    let stream = blocking(tokio::net::UnixStream::connect(&SocketPath::of(folder, MEMORY_SOCKET)?).await?)?;
    let copying = tokio::task::spawn_blocking(move || decompress(from, stream));
    let copied = tokio::select! {
        copied = copying => copied.map_err(io::Error::other)?,
        () = work.interruption() => return Err(MemoryError::Interrupted),
    };
    let loaded = until_loaded(folder, limit, patience).await;
    match copied {
        // The file is damaged, which may show at its end, when QEMU has taken all of it.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        // That the connection breaks is for QEMU to explain.
        _ => loaded,
    }
}

async fn until_loaded(folder: &Path, limit: Duration, patience: Duration) -> Result<(), MemoryError> {
    let end = Instant::now() + patience;
    while qmp::is_receiving(folder, limit).await? {
        if Instant::now() > end {
            return Err(QmpError::Silent { limit: patience }.into());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn blocking(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn compress(from: UnixStream, to: File) -> io::Result<()> {
    let file = to.try_clone()?;
    let checked = FrameInfo::new().content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(checked, BufWriter::with_capacity(BUFFER, to));
    io::copy(&mut BufReader::with_capacity(BUFFER, from), &mut encoder)?;
    encoder.finish().map_err(io::Error::other)?.flush()?;
    file.sync_all()
}

fn decompress(from: File, to: UnixStream) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(BufReader::with_capacity(BUFFER, from));
    let mut to = BufWriter::with_capacity(BUFFER, to);
    io::copy(&mut decoder, &mut to)?;
    to.flush()
}
