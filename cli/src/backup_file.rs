//! A backup as a file.
//!
//! Layout, numbers little-endian: [`MAGIC`], which ends with the version; records, each as its length
//! (u32, never 0), the CRC-32 (IEEE 802.3) of its bytes (u32), and the bytes: a part of the backup,
//! compressed by zlib (RFC 1950); then 0 (u32), the number of records (u64), and the CRC-32 of all
//! before (u32).
//!
//! Invariant: the last part is handed out only when the checksum of the whole file is right, so that
//! nobody acts on a file that is not whole; and a damaged byte is noticed wherever it is.

use std::{
    fmt,
    io::{self, Read, Write},
};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use lockstep_client::{BackupError, BackupOrder, BackupPart};

/// How every backup begins. The last byte is the version.
const MAGIC: [u8; 16] = *b"LOCKSTEP-BACKUP\x01";
/// Largest record, compressed or not: a part is a quarter of it.
const MAX_RECORD_BYTES: u32 = 1 << 20;

/// Why a file is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("it is no backup, or one of a later version of lockstepctl")]
    NoBackup,
    /// It is damaged or cut off.
    #[error("it is damaged: {0}; nothing was restored, take another copy of it")]
    Damaged(String),
}

impl From<BackupError> for FileError {
    fn from(error: BackupError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Counts and checksums what goes through.
#[derive(Debug)]
struct Summed<T> {
    inner: T,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            crc: crc32fast::Hasher::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// Writes a backup.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: Summed<W>,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins.
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut writer = Self {
            out: Summed::new(out),
            records: 0,
        };
        writer.put(&MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.inner.write_all(bytes)?;
        self.out.add(bytes);
        Ok(())
    }

    /// Adds a part.
    pub(crate) fn part(&mut self, part: &BackupPart) -> io::Result<()> {
        let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
        compressed.write_all(&part.encode())?;
        let record = compressed.finish()?;
        let length = u32::try_from(record.len())
            .ok()
            .filter(|length| *length <= MAX_RECORD_BYTES)
            .ok_or_else(|| io::Error::other("a part is too large"))?;
        self.put(&length.to_le_bytes())?;
        self.put(&crc32fast::hash(&record).to_le_bytes())?;
        self.put(&record)?;
        self.records += 1;
        Ok(())
    }

    /// Ends it; how many bytes were written, and where.
    pub(crate) fn finish(mut self) -> io::Result<(u64, W)> {
        self.put(&0_u32.to_le_bytes())?;
        self.put(&self.records.to_le_bytes())?;
        let crc = self.out.crc.clone().finalize();
        self.put(&crc.to_le_bytes())?;
        self.out.inner.flush()?;
        Ok((self.out.bytes, self.out.inner))
    }
}

/// Reads a backup.
pub(crate) struct Reader<R> {
    input: Summed<R>,
    records: u64,
    order: BackupOrder,
    /// Read, but not handed out yet.
    ahead: Option<BackupPart>,
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Begins.
    pub(crate) fn new(input: R) -> Result<Self, FileError> {
        let mut reader = Self {
            input: Summed::new(input),
            records: 0,
            order: BackupOrder::default(),
            ahead: None,
        };
        match reader.take() {
            Ok(magic) if magic == MAGIC => {}
            Ok(_) | Err(FileError::Damaged(_)) => return Err(FileError::NoBackup),
            Err(error) => return Err(error),
        }
        reader.ahead = reader.record()?;
        Ok(reader)
    }

    /// The next part; none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<BackupPart>, FileError> {
        match self.ahead.take() {
            None => Ok(None),
            Some(part) => {
                self.ahead = self.record()?;
                Ok(Some(part))
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        read_exact(&mut self.input.inner, &mut bytes)?;
        self.input.add(&bytes);
        Ok(bytes)
    }

    /// The next record; none at the end of the file, which is then whole.
    fn record(&mut self) -> Result<Option<BackupPart>, FileError> {
        let damaged = |what: &str| FileError::Damaged(what.to_owned());
        let length = u32::from_le_bytes(self.take()?);
        if length == 0 {
            self.end()?;
            return Ok(None);
        }
        if length > MAX_RECORD_BYTES {
            return Err(damaged("a record is too long"));
        }
        let crc = u32::from_le_bytes(self.take()?);
        let mut record = vec![0; length as usize];
        read_exact(&mut self.input.inner, &mut record)?;
        self.input.add(&record);
        if crc32fast::hash(&record) != crc {
            return Err(damaged("a record's checksum is wrong"));
        }
        let mut bytes = Vec::new();
        ZlibDecoder::new(record.as_slice())
            .take(u64::from(MAX_RECORD_BYTES) + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| FileError::Damaged(error.to_string()))?;
        if bytes.len() > MAX_RECORD_BYTES as usize {
            return Err(damaged("a record is too long"));
        }
        let part = BackupPart::decode(&bytes)?;
        self.order.take(&part)?;
        self.records += 1;
        Ok(Some(part))
    }

    fn end(&mut self) -> Result<(), FileError> {
        let damaged = |what: &str| FileError::Damaged(what.to_owned());
        let records = u64::from_le_bytes(self.take()?);
        let expected = self.input.crc.clone().finalize();
        let crc = u32::from_le_bytes(self.take()?);
        if crc != expected || records != self.records {
            return Err(damaged("the checksum of the whole is wrong"));
        }
        self.order.finish()?;
        match self.input.inner.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(damaged("something comes after its end")),
        }
    }
}

fn read_exact(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), FileError> {
    input.read_exact(bytes).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            FileError::Damaged("it is cut off".to_owned())
        } else {
            FileError::Io(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head (one shard), shard (3 bytes), chunk, end; as protobuf.
    fn parts() -> Vec<BackupPart> {
        let crc = crc32fast::hash(b"abc");
        let mut crc_varint = Vec::new();
        let mut left = crc;
        while left >= 0x80 {
            crc_varint.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        crc_varint.push(left as u8);
        let mut chunk = vec![0x12, 3, b'a', b'b', b'c', 0x18];
        chunk.extend(&crc_varint);
        let mut chunk_part = vec![0x1a, u8::try_from(chunk.len()).unwrap()];
        chunk_part.extend(chunk);
        let encoded: [&[u8]; 4] = [
            &[0x0a, 2, 0x18, 1],
            &[0x12, 4, 0x08, 1, 0x20, 3],
            &chunk_part,
            &[0x22, 2, 0x08, 1],
        ];
        encoded
            .iter()
            .map(|bytes| BackupPart::decode(bytes).unwrap())
            .collect()
    }

    fn file() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for part in parts() {
            writer.part(&part).unwrap();
        }
        let (bytes, file) = writer.finish().unwrap();
        assert_eq!(bytes, file.len() as u64);
        file
    }

    fn read(file: &[u8]) -> (Vec<BackupPart>, Result<(), FileError>) {
        let mut found = Vec::new();
        let mut reader = match Reader::new(file) {
            Ok(reader) => reader,
            Err(error) => return (found, Err(error)),
        };
        loop {
            match reader.next() {
                Ok(Some(part)) => found.push(part),
                Ok(None) => return (found, Ok(())),
                Err(error) => return (found, Err(error)),
            }
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (found, end) = read(&file());
        end.unwrap();
        assert_eq!(found, parts());
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed_before_the_last_part() {
        let file = file();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            let (found, end) = read(&damaged);
            assert!(end.is_err() && found.len() < parts().len(), "byte {at}");
            let (found, end) = read(&file[..at]);
            assert!(end.is_err() && found.len() < parts().len(), "cut at {at}");
        }
        let mut longer = file;
        longer.push(0);
        assert!(read(&longer).1.is_err());
    }
}
