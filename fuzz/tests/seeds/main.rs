//! Writes the seeds: what a fuzzer starts from, made of what is in the repository anyway.
//!
//! `cargo test --package holdfast-fuzz --test seeds -- --ignored` writes into `fuzz/seeds`; files that are there stay
//! unless they have the same name. Requests come from the golden scripts, the log from the fixture of its format, flags
//! from the table of flags; what is not in the repository in bytes (steps of `apply`, edits of a log) is written here.

mod golden;
mod made;
mod steps;

use bytes::Bytes;
use etcd_shim::config::flags;
use etcd_shim::fuzzing;
use etcd_shim::proto::etcdserverpb as wire;
use golden::Requests;
use kvstore::command::{Alarm, AlarmKind, Batch, Command, Operation, Transaction, encode_batch};
use kvstore::snapshot::{Body, SnapshotInfo};
use kvstore::{ClockMillis, KeyValue, KeyspaceId, LeaseId, LogIndex, RequestId, Revision, Term};
use prost::Message;
use std::fs;
use std::path::{Path, PathBuf};

/// So many of a kind: a fuzzer makes more of them, and starts faster with few.
const OF_A_KIND_MAX: usize = 30;

fn fuzz() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let directory = fuzz().join("seeds").join(target);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), bytes).unwrap();
}

/// At most [`OF_A_KIND_MAX`], evenly taken from all.
fn some<T>(all: Vec<T>) -> Vec<T> {
    let step = all.len().div_ceil(OF_A_KIND_MAX).max(1);
    all.into_iter().step_by(step).collect()
}

/// A length in one byte (255: in two more), and the bytes: how targets with several messages separate them.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let mut out = match u8::try_from(length) {
        Ok(short) if short < u8::MAX => vec![short],
        _ => [&[u8::MAX][..], &u16::try_from(length).unwrap().to_le_bytes()].concat(),
    };
    out.extend_from_slice(bytes);
    out
}

#[test]
#[ignore = "writes into the sources"]
fn write_the_seeds() {
    let requests = Requests::read(&fuzz().join("../tests/golden"));
    for (target, call) in
        [("range", "KV.Range"), ("put", "KV.Put"), ("delete_range", "KV.DeleteRange"), ("txn", "KV.Txn")]
    {
        for (name, bytes) in some(requests.of(call)) {
            write(target, &name, &bytes);
        }
    }
    write_limits();
    for (name, request) in made::compares() {
        write("txn", &name, &request.encode_to_vec());
    }
    let reads = made::reads().encode_to_vec();
    write("txn", "reads", &reads);
    // An empty group of field 15, and as many operations behind it as without it.
    write("txn", "behind-a-group", &[&[0x7b, 0x7c][..], &reads].concat());
    write_streams(&requests);
    write_commands(&requests);
    write_records(&requests);
    write_configurations();
    write_logs();
    write_snapshots();
    for (name, bytes) in steps::all() {
        write("apply", name, &bytes);
    }
}

/// The target's history leaves six living keys: limits around that, in the orders that take different ways.
fn write_limits() {
    for limit in 5..=7 {
        for (sort_order, sort_target) in [(0, 0), (2, 0), (1, 3), (2, 4)] {
            let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
            let request =
                wire::RangeRequest { key, range_end, limit, sort_order, sort_target, ..Default::default() };
            write("range", &format!("limit-{limit}-{sort_order}-{sort_target}"), &request.encode_to_vec());
        }
    }
}

/// Watch requests of one script are of one stream; the lease requests of one script follow each other.
fn write_streams(requests: &Requests) {
    let watches = requests.of("Watch.Watch");
    for (name, _) in &watches {
        let script = name.rsplit_once('-').unwrap().0;
        let all: Vec<u8> = watches
            .iter()
            .filter(|(other, _)| other.starts_with(script))
            .take(8)
            .flat_map(|(_, bytes)| piece(bytes))
            .collect();
        write("watch", script, &all);
    }
    for (name, bytes) in made::watches() {
        write("watch", name, &bytes);
    }
    let kinds = [
        (0, "Lease.LeaseGrant"),
        (2, "Lease.LeaseRevoke"),
        (3, "Lease.LeaseKeepAlive"),
        (4, "Lease.LeaseTimeToLive"),
        (6, "KV.Put"),
    ];
    let mut mixed = Vec::new();
    for (what, call) in kinds {
        let of_leases = requests.of(call).into_iter().filter(|(name, _)| name.starts_with("lease-"));
        let each: Vec<u8> =
            of_leases.take(6).flat_map(|(_, bytes)| [vec![what | 0x20], piece(&bytes)].concat()).collect();
        write("lease", call, &each);
        mixed.extend_from_slice(&each);
    }
    // Ten times two and a half minutes: all of them end.
    mixed.extend([0xf5, 0].repeat(10));
    write("lease", "all", &mixed);
}

fn batch(commands: Vec<Command>) -> Bytes {
    encode_batch(&Batch {
        proposer: 7,
        clock: ClockMillis::new(1000),
        first_request: RequestId::new(1),
        commands: commands.into_iter().map(|command| (KeyspaceId::DEFAULT, command)).collect(),
    })
}

fn write_commands(requests: &Requests) {
    let mut transactions: Vec<(String, Transaction)> = Vec::new();
    for (name, bytes) in requests.of("KV.Txn") {
        if let Ok((transaction, _)) = fuzzing::transaction(wire::TxnRequest::decode(&bytes[..]).unwrap(), 128)
        {
            transactions.push((name, transaction));
        }
    }
    for (name, bytes) in requests.of("KV.Put") {
        if let Ok(put) = fuzzing::put(wire::PutRequest::decode(&bytes[..]).unwrap()) {
            transactions.push((name, fuzzing::alone(Operation::Put(put))));
        }
    }
    for (name, transaction) in some(transactions) {
        write("command", &name, &batch(vec![Command::Transaction(transaction)]));
    }
    let (lease, alarm) = (LeaseId::new(7), Alarm { member: 1, kind: AlarmKind::NoSpace });
    let others = vec![
        Command::LeaseGrant { id: LeaseId::new(5), ttl_s: 30 },
        Command::LeaseRenew { ids: vec![lease, LeaseId::new(5)] },
        Command::LeaseExpire { leases: vec![(lease, 1), (LeaseId::new(9), 99)] },
        Command::LeaseRevoke { id: lease },
        Command::Compact { revision: Revision::new(6) },
        Command::AlarmActivate(alarm),
        Command::AlarmDeactivate(alarm),
    ];
    write("command", "everything-else", &batch(others));
    for depth in [128, 129] {
        let mut nested = Transaction::default();
        for _ in 1..depth {
            nested = Transaction { success: vec![Operation::Transaction(nested)], ..Transaction::default() };
        }
        write("command", &format!("nested-{depth}"), &batch(vec![Command::Transaction(nested)]));
    }
}

fn write_records(requests: &Requests) {
    for (name, bytes) in some(requests.of("KV.Put")).into_iter().step_by(4) {
        let put = wire::PutRequest::decode(&bytes[..]).unwrap();
        let (create, modified) = (Revision::new(3), Revision::new(1 << 40));
        let kv = KeyValue::new(&put.key, &put.value, create, modified, 300, LeaseId::new(put.lease));
        write("record", &name, kv.encoded());
    }
}

fn write_configurations() {
    for section in &flags::SECTIONS {
        let name = section.title.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let given = || section.flags.iter().filter(|flag| !flag.default.is_empty());
        let arguments: Vec<String> =
            given().map(|flag| format!("--{}={}", flag.name, flag.default)).collect();
        write("config", &format!("{name}-arguments"), arguments.join("\n").as_bytes());
        let variable = |name: &str| name.to_uppercase().replace('-', "_");
        let variables: Vec<String> =
            given().map(|flag| format!("ETCD_{}={}", variable(flag.name), flag.default)).collect();
        write("config", &format!("{name}-variables"), format!("\n%%\n{}", variables.join("\n")).as_bytes());
        let keys: Vec<String> = given().map(|flag| format!("{}: {:?}", flag.name, flag.default)).collect();
        write("config", &format!("{name}-file"), format!("\n%%\n\n%%\n{}\n", keys.join("\n")).as_bytes());
    }
    for (name, text) in steps::CONFIGURATIONS {
        write("config", name, text.as_bytes());
    }
}

/// The fixture of the log's format, and the edits and frames of [`steps`].
fn write_logs() {
    let fixture = fuzz().join("../kvstore/src/log/tests/fixtures/v1");
    let mut paths: Vec<PathBuf> = fs::read_dir(fixture).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    // Entries from 21 on are wanted; the checksums stay what they are.
    let mut whole = vec![21 << 2];
    for path in &paths {
        let sequence: u8 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = fs::read(path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        whole.push(0x80 | 0x10 | sequence);
        // Zeros to the end of the page come by themselves.
        whole.extend(piece(&bytes[..used]));
    }
    write("segment", "fixture", &whole);
    whole[0] |= 2;
    write("segment", "fixture-sealed-again", &whole);
    for (name, bytes) in steps::segments() {
        write("segment", name, &bytes);
    }
    for (name, bytes) in steps::frames() {
        write("frame", name, &bytes);
    }
}

/// The three ways in: bytes as a sender writes them, chunks by their kinds, and edits of a sound snapshot.
fn write_snapshots() {
    let begin = |files, bytes, chunk_bytes| {
        let (applied, term) = (LogIndex::new(9), Term::new(2));
        Body::Begin(SnapshotInfo { cluster_id: 1, applied, term, files, bytes, chunk_bytes })
    };
    let (name, longer) = ("CURRENT", "MANIFEST-000005");
    let streams = [
        ("nothing", vec![begin(0, 0, 1), Body::End]),
        ("empty-file", vec![begin(1, 0, 7), Body::File { name, bytes: 0 }, Body::End]),
        (
            "two-files",
            vec![
                begin(2, 8, 3),
                Body::File { name, bytes: 5 },
                Body::Data(b"abc"),
                Body::Data(b"de"),
                Body::File { name: longer, bytes: 3 },
                Body::Data(b"xyz"),
                Body::End,
            ],
        ),
    ];
    for (what, bodies) in streams {
        let mut bytes = vec![0];
        for (number, body) in bodies.iter().enumerate() {
            kvstore::snapshot::encode(5, number as u64, body, &mut bytes);
        }
        write("snapshot", what, &bytes);
    }
    let numbers = |count: u8| [[1; 24].as_slice(), &[count, count, 2]].concat();
    let chunks = [&[1, 0][..], &numbers(1), &[1, 1, b'a', 2], &[2, 2, 7, 7], &[3]].concat();
    write("snapshot", "chunks", &chunks);
    // Three files of 700 bytes in chunks of 100; then each kind of edit.
    let sound = [&[2, 100, 3][..], &[5, 188, 2].repeat(3), &[1; 24]].concat();
    for what in 0..8 {
        write("snapshot", &format!("edit-{what}"), &[&sound[..], &[what, 3, 0, 5, 0, 9]].concat());
    }
}
