//! `backup save` and `backup restore`.
//!
//! Invariant: a file under the name that was asked for is a whole backup that is on the disk.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
};

use lockstep_client::{BackupPart, BackupPartKind, Client};
use tokio::sync::mpsc;

use crate::{
    args::{BackupAction, Format},
    backup_file::{FileError, Reader, Writer},
    exit::Failure,
    new_file::NewFile,
    output::Output,
    row::{BackupRestored, BackupSaved},
};

/// Parts that wait for the connection: a quarter of a megabyte each.
const PARTS_AHEAD: usize = 4;

/// Does what was asked for.
pub(crate) async fn act(
    client: &Client,
    action: BackupAction,
    output: &Output,
) -> Result<(), Failure> {
    match action {
        BackupAction::Save { file } => save(client, &file, output).await,
        BackupAction::Restore { file } => restore(client, file, output).await,
    }
}

async fn save(client: &Client, file: &Path, output: &Output) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::Usage(format!("{} exists: name another file", file.display()))
        } else {
            cannot(file, "be written", &error)
        }
    };
    let (new, out) = NewFile::create(file).map_err(failed)?;
    let mut writer = Writer::new(BufWriter::new(out)).map_err(failed)?;
    let mut saved = BackupSaved {
        file: file.display().to_string(),
        cluster_id: String::new(),
        shards: 0,
        state_bytes: 0,
        file_bytes: 0,
    };
    let mut backup = client.backup().await?;
    while let Some(part) = backup.next().await? {
        match part.kind() {
            BackupPartKind::Head { cluster_id, shards } => {
                saved.cluster_id = cluster_id;
                saved.shards = shards;
            }
            BackupPartKind::Shard { shard, bytes, .. } => output.progress(format_args!(
                "shard {shard} of {}: {bytes} bytes",
                saved.shards
            )),
            BackupPartKind::Chunk { bytes } => saved.state_bytes += bytes,
            BackupPartKind::End => {}
        }
        writer.part(&part).map_err(failed)?;
    }
    let (bytes, out) = writer.finish().map_err(failed)?;
    saved.file_bytes = bytes;
    let out = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    new.finish(&out).map_err(failed)?;
    match output.format() {
        Format::Json => output.json(&saved),
        Format::Table => output.write(&format!(
            "saved {} shards of cluster {} to {}: {} bytes of state, {} in the file\n",
            saved.shards, saved.cluster_id, saved.file, saved.state_bytes, saved.file_bytes
        )),
    }
}

async fn restore(client: &Client, file: PathBuf, output: &Output) -> Result<(), Failure> {
    let opened = File::open(&file).map_err(|error| cannot(&file, "be read", &error))?;
    let reader = Reader::new(BufReader::new(opened)).map_err(|error| no_backup(&file, &error))?;
    let (parts, outgoing) = mpsc::channel(PARTS_AHEAD);
    // Reading blocks. What it has read is sent meanwhile; the cluster acts on the last part only.
    let reading = tokio::task::spawn_blocking(move || feed(reader, &parts));
    output.progress("sending the backup");
    let restored = client.restore(outgoing).await;
    let read = reading
        .await
        .map_err(|error| Failure::Other(error.to_string()))?;
    // A file that is no backup is the cause of what the cluster says then.
    let from_cluster_id = read.map_err(|error| no_backup(&file, &error))?;
    let restored = restored?;
    match output.format() {
        Format::Json => output.json(&BackupRestored {
            from_cluster_id,
            shards: restored.shards,
            tokens_above: restored.tokens_above,
        }),
        Format::Table => output.write(&format!(
            "restored: {} shards go on from cluster {from_cluster_id}, with tokens above {}\n",
            restored.shards, restored.tokens_above
        )),
    }
}

/// Reads all parts; the id of the cluster that they are of.
fn feed<R: io::Read>(
    mut reader: Reader<R>,
    parts: &mpsc::Sender<BackupPart>,
) -> Result<String, FileError> {
    let mut cluster = String::new();
    while let Some(part) = reader.next()? {
        if let BackupPartKind::Head { cluster_id, .. } = part.kind() {
            cluster = cluster_id;
        }
        if parts.blocking_send(part).is_err() {
            // The cluster has refused, and says why.
            break;
        }
    }
    Ok(cluster)
}

fn cannot(file: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::Other(format!("{} cannot {what}: {error}", file.display()))
}

fn no_backup(file: &Path, error: &FileError) -> Failure {
    Failure::Other(format!("{}: {error}", file.display()))
}
