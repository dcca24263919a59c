//! The attacks, as a table: what each is, how large, what it may be told, and what memory it may cost.
//!
//! An attack has a preparation, which nobody measures, and the attack itself, which runs until the attacker is told to
//! stop and then gives back all that it holds. It counts every answer it gets; one that the table does not expect is a
//! fault of the server.
//!
//! Invariants:
//! - attacks talk to the server over sockets, as any client would;
//! - each runs at a stated, bounded rate where its own work would otherwise be what slows the neighbours: the
//!   attacker's thread also runs only when server and neighbours, which share the machine with it, do not;
//! - bounds of memory are those of LIMITS.md, put together in the table's comments.
//!
//! Deliberately missing: attacks on peers (there are none yet), and on the disk (the tests of bad input have them).

mod connections;
mod leases;
mod reads;
mod watches;
mod writes;

use crate::attacker::Attacker;
use std::future::Future;
use std::pin::Pin;

type Run = fn(Attacker) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// Its size, as the report shows it: full and short.
    pub scale: [&'static str; 2],
    pub prepare: Option<Run>,
    pub run: Run,
    /// Beginnings of the answers it may get.
    pub expected: &'static [&'static str],
    /// If there are any, one of these it has to get at full size: or it was no attack.
    pub required: &'static [&'static str],
    /// MiB that it may add to the server's peak: full and short.
    pub memory_mib: [u64; 2],
}

impl Attack {
    /// Whether it takes the time it needs.
    pub fn has_own_end(&self) -> bool {
        self.name.starts_with("leases")
    }

    /// Whether it shows what the machine does by itself.
    pub fn is_control(&self) -> bool {
        self.name.starts_with("nothing")
    }
}

const TOO_MANY_REQUESTS: &str = "Unknown: etcdserver: too many requests";
const DEADLINE: &str = "DeadlineExceeded:";
/// tonic's word for a deadline that it noticed itself.
const CLIENT_TIMEOUT: &str = "Cancelled: Timeout expired";

macro_rules! run {
    ($function:path) => {
        |attacker| Box::pin($function(attacker))
    };
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "nothing at all",
        scale: ["-", "-"],
        prepare: None,
        run: run!(nothing),
        expected: &[],
        required: &[],
        memory_mib: [64, 64],
    },
    Attack {
        name: "watchers that never read",
        scale: ["100 streams, 3 MiB/s of events", "20 streams, 3 MiB/s of events"],
        prepare: None,
        run: run!(watches::never_read),
        expected: &["ok"],
        required: &[],
        // The store's own 128; for each stream 2 MiB queued (mostly shared), a delivery and the send buffer.
        memory_mib: [128 + 100 * 3, 128 + 20 * 3],
    },
    Attack {
        name: "many watches on one stream",
        scale: ["10,000 watches, 2 events/s for all", "2,000 watches, 2 events/s for all"],
        prepare: None,
        run: run!(watches::many_on_one_stream),
        expected: &["ok", watches::TOLD],
        required: &[watches::TOLD],
        memory_mib: [128, 64],
    },
    Attack {
        name: "many streams",
        scale: ["1,000 streams, 2 events/s for all", "200 streams, 2 events/s for all"],
        prepare: None,
        run: run!(watches::many_streams),
        expected: &["ok", watches::TOLD],
        required: &[watches::TOLD],
        memory_mib: [128, 64],
    },
    Attack {
        name: "a lagging watcher and compaction",
        scale: ["20 watchers, 3 MiB/s, compacted each 0.2 s", "5 watchers, 3 MiB/s, compacted each 0.2 s"],
        prepare: None,
        run: run!(watches::lag_over_compaction),
        expected: &["ok", "canceled: compacted", "read: history"],
        required: &["canceled: compacted"],
        memory_mib: [128 + 20 * 3, 128 + 5 * 3],
    },
    Attack {
        name: "half-open connections",
        scale: ["2,000, silent or behind a preface", "300, silent or behind a preface"],
        prepare: None,
        run: run!(connections::half_open),
        expected: &["ok", "closed"],
        required: &[],
        memory_mib: [96, 48],
    },
    Attack {
        name: "slowloris",
        scale: ["500, a byte each second", "100, a byte each second"],
        prepare: None,
        run: run!(connections::slowloris),
        expected: &["ok", "closed"],
        required: &[],
        memory_mib: [64, 48],
    },
    Attack {
        name: "a flood of tiny connections",
        scale: ["1,000/s", "500/s"],
        prepare: None,
        run: run!(connections::flood),
        expected: &["ok", "closed"],
        required: &[],
        memory_mib: [64, 48],
    },
    Attack {
        name: "a flood of pings and settings",
        scale: ["4 connections, 20,000 frames/s", "2 connections, 10,000 frames/s"],
        prepare: None,
        run: run!(connections::frames),
        expected: &["ok", "closed"],
        required: &[],
        memory_mib: [64, 48],
    },
    Attack {
        name: "requests opened and reset",
        scale: ["2,000/s", "1,000/s"],
        prepare: None,
        run: run!(connections::resets),
        expected: &["ok"],
        required: &[],
        memory_mib: [64, 48],
    },
    Attack {
        name: "requests that never end",
        scale: ["400 of 1 MiB and no more", "50 of 1 MiB and no more"],
        prepare: None,
        run: run!(connections::unfinished),
        expected: &["ok", "refused"],
        required: &[],
        // UNFINISHED_BYTES_MAX, twice: a buffer that grows is copied; and what waits in the windows of the others.
        memory_mib: [2 * 256 + 200, 50 * 4 + 64],
    },
    Attack {
        name: "transactions with too many operations",
        scale: ["5/s of 100,000", "2/s of 100,000"],
        prepare: None,
        run: run!(writes::too_many_operations),
        expected: &["InvalidArgument: etcdserver: too many operations in txn request"],
        required: &["InvalidArgument"],
        memory_mib: [128, 128],
    },
    Attack {
        name: "values of 1.5 MiB",
        scale: ["64 clients, closed loop", "48 clients, closed loop"],
        prepare: None,
        run: run!(writes::large_values),
        expected: &["ok", TOO_MANY_REQUESTS],
        required: &[],
        // COMMAND_BYTES_IN_FLIGHT_MAX, a turn of it encoded, memtables (4 × 8 MiB), log buffers, what arrives.
        memory_mib: [512, 448],
    },
    Attack {
        name: "bursts of small puts",
        scale: ["20,000 puts at once, each 2 s", "4,000 puts at once, each 2 s"],
        prepare: None,
        run: run!(writes::bursts),
        expected: &["ok", TOO_MANY_REQUESTS],
        required: &[],
        memory_mib: [256, 128],
    },
    Attack {
        name: "bursts beyond what is in flight",
        scale: ["200 × 1.5 MiB at once, each 2 s", "160 × 1.5 MiB at once, each 2 s"],
        prepare: None,
        run: run!(writes::large_bursts),
        expected: &["ok", TOO_MANY_REQUESTS],
        required: &[TOO_MANY_REQUESTS],
        // As above, and what has arrived in part: UNFINISHED_BYTES_MAX.
        memory_mib: [768, 640],
    },
    Attack {
        name: "deadlines that pass",
        scale: ["1,000/s with 1 or 0.1 ms", "500/s with 1 or 0.1 ms"],
        prepare: None,
        run: run!(writes::deadlines),
        expected: &["ok", DEADLINE, CLIENT_TIMEOUT],
        required: &[DEADLINE, CLIENT_TIMEOUT],
        memory_mib: [64, 48],
    },
    Attack {
        name: "leases that end in one second",
        scale: ["100,000, each with a key", "5,000, each with a key"],
        prepare: Some(run!(leases::prepare)),
        run: run!(leases::expire),
        expected: &["ok"],
        required: &[],
        memory_mib: [256, 128],
    },
    Attack {
        name: "a list of all keys",
        scale: ["2 readers of 1,000,000 keys", "2 readers of 50,000 keys"],
        prepare: Some(run!(reads::fill)),
        run: run!(reads::lists),
        expected: &["ok", TOO_MANY_REQUESTS],
        required: &[],
        // Each reply once, two readers and two at work; the index's snapshot nodes.
        memory_mib: [4 * 160, 4 * 8 + 96],
    },
    Attack {
        name: "lists that nobody reads",
        scale: ["20 readers of 1,000,000 keys", "20 readers of 50,000 keys"],
        prepare: Some(run!(reads::fill)),
        run: run!(reads::unread_lists),
        expected: &["ok", "still in line", TOO_MANY_REQUESTS],
        required: &[],
        // RESPONSES_HELD_BYTES_MAX and two at work.
        memory_mib: [512 + 2 * 160 + 128, 20 * 8 + 96],
    },
    Attack {
        name: "hashes of everything",
        scale: ["50 at once over 1,000,000 keys", "50 at once over 50,000 keys"],
        prepare: Some(run!(reads::fill)),
        run: run!(reads::hashes),
        expected: &["ok"],
        required: &[],
        memory_mib: [128, 64],
    },
];

/// What the machine does to the neighbours by itself.
async fn nothing(attacker: Attacker) {
    attacker.wait_for_the_end().await;
}
