//! RocksDB's options, and why each is what it is.

use super::Family;
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options};

/// The sizes that a store may choose. The default fits a small node: below 95 MiB for the whole process.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// A family's memtable is flushed (and all others with it) when it reaches this. While new data comes in
    /// fast, memtables take up to four times as much: twice this makes 20 MiB more of resident memory.
    pub write_buffer_bytes: usize,
    /// Cache of uncompressed blocks and of the files' index blocks, shared by all families.
    pub block_cache_bytes: usize,
    /// Threads for flushes and compactions together.
    pub background_jobs_max: i32,
    /// Table files that are open at a time; the others are opened again when they are needed.
    pub open_files_max: i32,
    /// Most bytes per second that flushes and compactions write, so that the raft log's syncs on the same
    /// disk do not wait behind a burst. Must be above what clients can write for long, or writes will stall.
    pub background_bytes_per_s_max: u64,
    /// Whether the directory was used before: then an empty one is refused, not made anew.
    pub must_exist: bool,
    /// Only to look: nothing of the data is changed.
    pub read_only: bool,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 8 << 20,
            block_cache_bytes: 32 << 20,
            background_jobs_max: 2,
            open_files_max: 512,
            background_bytes_per_s_max: 128 << 20,
            must_exist: false,
            read_only: false,
        }
    }
}

/// RocksDB's info log: two files of this size are kept in the directory.
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOG_FILES: usize = 2;

/// Written data is handed to the disk in steps of this, not in one burst at the end of a file that the raft
/// log's next sync would have to wait for.
const SYNC_STEP_BYTES: u64 = 256 << 10;

/// Rate limiter: how often it hands out its share, which the raft log's next sync may find before it on the disk; and one
/// in how many turns goes to compactions before flushes.
const RATE_REFILL_PERIOD_US: i64 = 5_000;
const RATE_FAIRNESS: i32 = 10;

/// Files of the first level at which RocksDB first delays, then stops writes. Far above those at which it
/// begins to compact: a delayed write holds up every client, a few more files only slow down rare reads.
const LEVEL_ZERO_FILES_DELAY: i32 = 40;
const LEVEL_ZERO_FILES_STOP: i32 = 80;

/// Files of the heads' first level at which they are merged. Each flush makes one, below a megabyte and with keys from
/// everywhere, and each merging rewrites all heads: with RocksDB's four that was an eighth of a busy server's time. Nothing
/// but a start reads them, and it reads all.
const HEADS_LEVEL_ZERO_FILES: i32 = 16;

/// Memtables of a family, of which one takes writes and the others wait for their flush.
const MEMTABLES_MAX: i32 = 4;

/// A file is compacted soon when this many of so many neighbouring keys (or this part of all) are deleted:
/// compaction of old revisions must give the space back by itself.
const DELETION_WINDOW_KEYS: usize = 4096;
const DELETION_TRIGGER_KEYS: usize = 2048;
const DELETION_RATIO: f64 = 0.5;

/// The options of each family.
pub(super) struct FamilyOptions {
    revisions: Options,
    heads: Options,
    meta: Options,
}

impl FamilyOptions {
    pub(super) fn of(&self, family: Family) -> Options {
        match family {
            Family::Revisions => self.revisions.clone(),
            Family::Heads => self.heads.clone(),
            Family::Meta => self.meta.clone(),
        }
    }
}

impl RocksOptions {
    /// What holds for the whole database.
    pub(super) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(!self.must_exist);
        options.create_missing_column_families(!self.must_exist);
        // Without a log this is what makes a crash consistent over the families.
        options.set_atomic_flush(true);
        options.set_paranoid_checks(true);
        options.set_db_write_buffer_size(2 * self.write_buffer_bytes);
        // One writer, the apply step: the concurrent skip list would only cost.
        options.set_allow_concurrent_memtable_write(false);
        options.set_max_background_jobs(self.background_jobs_max);
        options.set_max_open_files(self.open_files_max);
        options.set_bytes_per_sync(SYNC_STEP_BYTES);
        // Not the self-tuning one: after a quiet time it starts low, a burst then waits for its flushes.
        options.set_ratelimiter(
            self.background_bytes_per_s_max.try_into().unwrap_or(i64::MAX),
            RATE_REFILL_PERIOD_US,
            RATE_FAIRNESS,
        );
        options.set_log_level(LogLevel::Info);
        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_keep_log_file_num(INFO_LOG_FILES);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    /// What each family gets.
    pub(super) fn families(&self) -> FamilyOptions {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        FamilyOptions {
            // 8 KiB: values are read one by one too (old revisions, lists that the cache above missed), and
            // each such read unpacks a block.
            revisions: self.family(&cache, 8 << 10),
            heads: {
                // Read by scans only, once per start.
                let mut heads = self.family(&cache, 32 << 10);
                heads.set_level_zero_file_num_compaction_trigger(HEADS_LEVEL_ZERO_FILES);
                heads
            },
            meta: self.family(&cache, 4 << 10),
        }
    }

    fn family(&self, cache: &Cache, block_bytes: usize) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(block_bytes);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(5);

        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(MEMTABLES_MAX);
        options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_FILES_DELAY);
        options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_FILES_STOP);
        // The same on every level, the first included: a file of new revisions overlaps no other and then
        // moves down without being rewritten, which RocksDB does only if the compression stays the same.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(32 << 20);
        options.add_compact_on_deletion_collector_factory(
            DELETION_WINDOW_KEYS,
            DELETION_TRIGGER_KEYS,
            DELETION_RATIO,
        );
        options
    }
}
