//! RocksDB, set up for a Raft log that many shards share.
//!
//! It writes no log of its own: [`super::journal`] has every change before it. All column families
//! are flushed together (`atomic_flush`), and each group of changes carries its number, so that the
//! files of the database are always those of one moment, and say of which.
//!
//! Invariant: what the files have is all groups up to [`super::meta_record::GROUP`], and none after.

use std::{fs::File, path::Path, thread, time::Duration};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, DBRawIterator, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions,
    IngestExternalFileOptions, LogLevel, Options, ReadOptions, SstFileWriter, WriteBatch,
    WriteOptions,
};

use super::{family::Family, high_water::Group, meta_record, op::Op};

/// Memtables of the log, at most: big enough that in steady state entries are purged before they are ever
/// flushed to a table file, and so are written to the device once. Half a segment of the journal, because
/// RocksDB recovers from a full disk only when so much is free.
const LOG_BUFFER_BYTES: u64 = 32 << 20;
/// Memtables of the small families.
const SMALL_BUFFER_BYTES: usize = 4 << 20;
/// All memtables together: bounds memory whatever the number of shards, since shards share them.
const ALL_BUFFERS_BYTES: usize = 128 << 20;
/// Cached blocks: readers of the log mostly hit memory, and recovery reads once.
const CACHE_BYTES: usize = 32 << 20;
/// Open table files: a node's database has few, and each costs a descriptor.
const MAX_OPEN_FILES: i32 = 256;
/// Background flushes and compactions at a time: they must not crowd out the nodes' own work.
const BACKGROUND_JOBS: i32 = 2;
/// Table files are handed to the device in such pieces while they are written, so that a sync of
/// the journal never waits for a whole file.
const WRITEBACK_BYTES: u64 = 1 << 20;
/// Between two attempts of a write that the memtables have no room for: a flush takes longer.
const STALL_PAUSE: Duration = Duration::from_millis(2);
/// RocksDB's own log files, and the size of each: for diagnosis only.
const INFO_LOGS: usize = 4;
const INFO_LOG_BYTES: usize = 4 << 20;

/// RocksDB could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Its own error.
    #[error("the storage engine failed: {0}")]
    RocksDb(rocksdb::Error),
    /// The volume, or the quota on it, has no room: what was to be written was not, and may be tried again.
    #[error("no room on the disk: {0}")]
    Full(String),
    /// A column family is not there, though opening creates all of them.
    #[error("column family {0} is missing from the database")]
    NoFamily(&'static str),
    /// The journal could not be written.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    /// What is in memory could not be put into files.
    #[error("the database cannot be flushed: {0}")]
    Flush(String),
    /// The file that tells how far writing came could not be written.
    #[error("the high-water mark cannot be written: {0}")]
    HighWater(String),
}

impl EngineError {
    /// True where RocksDB found its own files damaged.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::RocksDb(error) => error.kind() == rocksdb::ErrorKind::Corruption,
            Self::Full(_)
            | Self::NoFamily(_)
            | Self::Journal(_)
            | Self::Flush(_)
            | Self::HighWater(_) => false,
        }
    }

    /// True if there was no room for a write, and it may be tried again.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::RocksDb(_)
            | Self::NoFamily(_)
            | Self::Journal(_)
            | Self::Flush(_)
            | Self::HighWater(_) => false,
        }
    }
}

/// How RocksDB tells, in words alone, that there is no room: by the operating system's.
const NO_ROOM: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

impl From<rocksdb::Error> for EngineError {
    fn from(error: rocksdb::Error) -> Self {
        let words: &str = error.as_ref();
        if NO_ROOM.iter().any(|no_room| words.contains(no_room)) {
            Self::Full(words.to_owned())
        } else {
            Self::RocksDb(error)
        }
    }
}

impl From<EngineError> for std::io::Error {
    fn from(error: EngineError) -> Self {
        Self::other(error)
    }
}

/// An open database.
pub(crate) struct Engine {
    db: DB,
    unlogged: WriteOptions,
    /// Unlocks the directory when the database is closed: fields are dropped in order.
    _lock: File,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.db.path())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens or creates the database in a directory, and holds `lock` while it is open. The journal's
    /// segments have `segment` bytes.
    pub(crate) fn open(dir: &Path, segment: u64, lock: File) -> Result<Self, EngineError> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let log_buffer = usize::try_from((segment / 2).min(LOG_BUFFER_BYTES)).unwrap_or(usize::MAX);
        let mut families: Vec<_> = Family::ALL
            .into_iter()
            .map(|family| {
                let options = family_options(family, log_buffer, &cache);
                ColumnFamilyDescriptor::new(family.name(), options)
            })
            .collect();
        // RocksDB has it in any case. Nothing is in it, but the largest buffer that there is decides how much
        // has to be free for RocksDB to recover from a full disk.
        let mut unused = Options::default();
        unused.set_write_buffer_size(SMALL_BUFFER_BYTES.min(log_buffer));
        families.push(ColumnFamilyDescriptor::new(
            DEFAULT_COLUMN_FAMILY_NAME,
            unused,
        ));
        let db = DB::open_cf_descriptors(&database_options(), dir, families)?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        unlogged.set_no_slowdown(true);
        Ok(Self {
            db,
            unlogged,
            _lock: lock,
        })
    }

    /// The value of a key.
    pub(crate) fn get(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, EngineError> {
        Ok(self.db.get_pinned_cf(self.handle(family)?, key)?)
    }

    /// An iterator over `lower..upper`, not yet positioned. It sees the database as it is now.
    pub(crate) fn iterate(
        &self,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
    ) -> Result<DBRawIterator<'_>, EngineError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        options.set_iterate_upper_bound(upper);
        Ok(self.db.raw_iterator_cf_opt(self.handle(family)?, options))
    }

    /// The column family's handle, for building a batch.
    pub(crate) fn handle(&self, family: Family) -> Result<&ColumnFamily, EngineError> {
        self.db
            .cf_handle(family.name())
            .ok_or(EngineError::NoFamily(family.name()))
    }

    /// Makes the changes of a group, which the journal has. While the memtables are full it waits here and not
    /// inside RocksDB: a write that waits there holds up the flush by which RocksDB recovers from a full disk,
    /// for which the write in turn waits.
    pub(crate) fn apply<'o>(
        &self,
        group: Group,
        ops: impl Iterator<Item = &'o Op> + Clone,
    ) -> Result<(), EngineError> {
        loop {
            let batch = self.batch(group, ops.clone())?;
            match self.db.write_opt(batch, &self.unlogged) {
                Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => {
                    thread::sleep(STALL_PAUSE);
                }
                written => return Ok(written?),
            }
        }
    }

    fn batch<'o>(
        &self,
        group: Group,
        ops: impl Iterator<Item = &'o Op>,
    ) -> Result<WriteBatch, EngineError> {
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                Op::Put(family, key, value) => batch.put_cf(self.handle(*family)?, key, value),
                Op::DeleteRange(family, from, to) => {
                    batch.delete_range_cf(self.handle(*family)?, from, to);
                }
            }
        }
        let key = meta_record::GROUP.as_bytes();
        let value = meta_record::encode(key, &group.0.to_be_bytes());
        batch.put_cf(self.handle(Family::Meta)?, key, value);
        Ok(batch)
    }

    /// Writes a batch behind the journal's back.
    #[cfg(test)]
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), EngineError> {
        Ok(self.db.write_opt(batch, &self.unlogged)?)
    }

    /// Puts all that was applied into files, durably. Others may go on meanwhile.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let families = Family::ALL
            .into_iter()
            .map(|family| self.handle(family))
            .collect::<Result<Vec<_>, _>>()?;
        let families: Vec<_> = families.iter().collect();
        Ok(self.db.flush_cfs_opt(&families, &FlushOptions::default())?)
    }
}

/// Adding files of sorted records, and dropping them again: how snapshots are kept, without passing
/// through the journal and the memtables that the logs live in.
impl Engine {
    /// Makes a table file of records in the order of their keys, and puts it on the device. Calls
    /// `wrote` after each.
    ///
    /// # Errors
    /// Where the file cannot be written; it is then of no use.
    pub(crate) fn write_table(
        path: &Path,
        records: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
        wrote: impl Fn(),
    ) -> Result<(), EngineError> {
        let options = table_file_options();
        let mut file = SstFileWriter::create(&options);
        file.open(path)?;
        for (key, value) in records {
            file.put(key, value)?;
            wrote();
        }
        Ok(file.finish()?)
    }

    /// Makes the records of a table file part of a column family, durably and all at once. The
    /// file is moved into the database. What was changed in its range before is flushed first, so
    /// that a change which is not in files yet, and may be made once more from the journal, never
    /// reaches what was adopted after it.
    pub(crate) fn adopt_table(&self, family: Family, path: &Path) -> Result<(), EngineError> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(self
            .db
            .ingest_external_file_cf_opts(self.handle(family)?, &options, vec![path])?)
    }

    /// Drops table files that lie wholly in a range. What is left of the range is for
    /// [`Op::DeleteRange`].
    pub(crate) fn drop_tables(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), EngineError> {
        Ok(self
            .db
            .delete_file_in_range_cf(self.handle(family)?, from, to)?)
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(ALL_BUFFERS_BYTES);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(WRITEBACK_BYTES);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(INFO_LOGS);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options
}

fn family_options(family: Family, log_buffer: usize, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = table_file_options();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(match family {
        Family::Log => log_buffer,
        Family::Vote | Family::Snapshot | Family::Meta => SMALL_BUFFER_BYTES.min(log_buffer),
    });
    options
}

fn table_file_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options
}
