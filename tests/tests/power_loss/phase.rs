//! What was under way at each moment of a life, so that power is lost there on purpose and it can be counted.
//!
//! RocksDB says in its info log, which is in the record like all that it writes, which job made which table, and whether
//! that job was a flush or a compaction; where a table came into being and where it was removed is in the record itself.

use crate::life::Span;
use crate::moment;
use holdfast_power::{Operation, Random, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;

/// Marks what is meant for programs in RocksDB's info log.
const EVENT_MARK: &str = "EVENT_LOG_v1 ";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// RocksDB writes tables of what is in memory: from the first of them until the manifest that names them is synced.
    Flush,
    /// RocksDB makes new tables of several old ones: from the first new one until the last old one is removed.
    TableCompaction,
    /// A compaction of the history was sent, its floor and its removals, and is not answered.
    Compaction,
    /// It was answered, and what it removed is still in tables: the removals are in memory and have to be done again.
    UnflushedRemoval,
    /// A log segment is given a second life: from its old name's end until its new name is synced.
    SegmentRecycling,
}

impl Phase {
    pub const ALL: [Self; 5] = [
        Self::Flush,
        Self::TableCompaction,
        Self::Compaction,
        Self::UnflushedRemoval,
        Self::SegmentRecycling,
    ];
}

/// Where in a record what was under way. A stretch is of operations, and under way before, between and after them.
#[derive(Debug, Default)]
pub struct Phases(BTreeMap<Phase, Vec<Range<usize>>>);

impl Phases {
    /// `compactions` are those of the history that were asked to remove all before they answer.
    pub fn of(record: &Record, compactions: &[Span]) -> Self {
        let mut phases = Self::default();
        let files = Files::of(record);
        for job in files.jobs() {
            if let Some(stretch) = files.stretch(&job) {
                let phase = if job.is_compaction { Phase::TableCompaction } else { Phase::Flush };
                phases.add(phase, stretch);
            }
        }
        let flushes = phases.0.get(&Phase::Flush).cloned().unwrap_or_default();
        for Span { sent, acknowledged } in compactions {
            phases.add(Phase::Compaction, sent + 1..acknowledged - 1);
            let flush = flushes.iter().filter(|flush| flush.start > *acknowledged).min_by_key(|it| it.start);
            phases
                .add(Phase::UnflushedRemoval, *acknowledged..flush.map_or(*acknowledged, |flush| flush.end));
        }
        for stretch in recyclings(record.operations()) {
            phases.add(Phase::SegmentRecycling, stretch);
        }
        phases
    }

    fn add(&mut self, phase: Phase, stretch: Range<usize>) {
        if !stretch.is_empty() {
            self.0.entry(phase).or_default().push(stretch);
        }
    }

    /// A moment at which `phase` is under way, if it ever is.
    pub fn moment(&self, phase: Phase, record: &Record, random: &mut Random) -> Option<usize> {
        let stretches = self.0.get(&phase)?;
        let stretch = stretches[random.below(stretches.len())].clone();
        Some(moment(record, stretch, random))
    }

    /// What is under way at a moment.
    pub fn at(&self, at: usize) -> impl Iterator<Item = Phase> {
        let is_under_way =
            move |stretches: &[Range<usize>]| stretches.iter().any(|it| (it.start..=it.end).contains(&at));
        self.0.iter().filter(move |(_, stretches)| is_under_way(stretches)).map(|(phase, _)| *phase)
    }
}

/// The operations after each renaming of a segment that is to be another, up to the sync of the directory that ends it.
fn recyclings(operations: &[Operation]) -> Vec<Range<usize>> {
    let ends_in = |name: &OsStr, end: &str| name.to_string_lossy().ends_with(end);
    let stretch = |(begun, operation): (usize, &Operation)| {
        let Operation::Rename { directory, from, to: preparing } = operation else { return None };
        if !(ends_in(from, ".segment") && ends_in(preparing, ".preparing")) {
            return None;
        }
        let is_ready = |it: &Operation| matches!(it, Operation::Rename { from, .. } if from == preparing);
        let ready = begun + operations[begun..].iter().position(is_ready)?;
        let is_synced = |it: &Operation| matches!(it, Operation::Sync { node } if node == directory);
        let synced = ready + operations[ready..].iter().position(is_synced)?;
        Some(begun + 1..synced)
    };
    operations.iter().enumerate().filter_map(stretch).collect()
}

/// One of RocksDB's jobs, by the numbers of its tables.
#[derive(Default)]
struct Job {
    is_compaction: bool,
    inputs: BTreeSet<u64>,
    outputs: BTreeSet<u64>,
    /// Where in the record the RocksDB that did it said its last word.
    until: usize,
}

/// What the record says of RocksDB's files.
#[derive(Default)]
struct Files {
    /// Where each table came into being, where it was last synced, and where it was removed.
    created: BTreeMap<u64, usize>,
    synced: BTreeMap<u64, usize>,
    removed: BTreeMap<u64, usize>,
    manifest_syncs: Vec<usize>,
    /// The text of each info log, and where its last words were written. Each opening has its own.
    logs: BTreeMap<u32, (Vec<u8>, usize)>,
}

impl Files {
    fn of(record: &Record) -> Self {
        let names = record.names();
        let name = |node: &u32| names.get(node).map(|name| name.to_string_lossy()).unwrap_or_default();
        let mut files = Self::default();
        for (at, operation) in record.operations().iter().enumerate() {
            match operation {
                Operation::CreateFile { name, .. } => {
                    table_number(&name.to_string_lossy()).map(|number| files.created.insert(number, at));
                }
                Operation::Remove { name, .. } => {
                    table_number(&name.to_string_lossy()).map(|number| files.removed.insert(number, at));
                }
                Operation::Sync { node } if name(node).starts_with("MANIFEST-") => {
                    files.manifest_syncs.push(at);
                }
                Operation::Sync { node } => {
                    table_number(&name(node)).map(|number| files.synced.insert(number, at));
                }
                Operation::Write { node, bytes, .. } if name(node) == "LOG" => {
                    let (text, until) = files.logs.entry(*node).or_default();
                    text.extend_from_slice(bytes);
                    *until = at;
                }
                _ => {}
            }
        }
        files
    }

    fn jobs(&self) -> Vec<Job> {
        let mut all = Vec::new();
        for (text, until) in self.logs.values() {
            let mut jobs = BTreeMap::<u64, Job>::new();
            let text = String::from_utf8_lossy(text);
            for event in text.lines().filter_map(|line| Some(line.split_once(EVENT_MARK)?.1)) {
                let Some(number) = numbers_of(event, "\"job\": ").next() else { continue };
                let job = jobs.entry(number).or_default();
                job.until = *until;
                if event.contains("\"compaction_started\"") {
                    job.is_compaction = true;
                    // As "files_L0": [8, 5], "files_L6": [3]: lists, of which nothing else is one.
                    for list in event.split("\"files_L").skip(1) {
                        job.inputs.extend(numbers_of(list, "["));
                    }
                } else if event.contains("\"table_file_creation\"") {
                    job.outputs.extend(numbers_of(event, "\"file_number\": "));
                }
            }
            all.extend(jobs.into_values());
        }
        all
    }

    /// The operations after the first table came into being, up to the one that ends the job.
    fn stretch(&self, job: &Job) -> Option<Range<usize>> {
        let outputs = || job.outputs.iter();
        let from = outputs().filter_map(|number| self.created.get(number)).min()?;
        let synced = outputs().filter_map(|number| self.synced.get(number)).max()?;
        let listed = self.manifest_syncs.iter().find(|at| *at > synced)?;
        let removed = job.inputs.iter().filter_map(|number| self.removed.get(number));
        let until = removed.filter(|at| **at <= job.until).chain([listed]).max()?;
        Some(from + 1..*until)
    }
}

fn table_number(name: &str) -> Option<u64> {
    name.strip_suffix(".sst")?.parse().ok()
}

/// The number that follows `mark`, and all that follow it in a list.
fn numbers_of<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = u64> + use<'a> {
    let list = text.split_once(mark).map_or("", |(_, after)| after);
    let end = list.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(list.len());
    list[..end].split(',').map_while(|number| number.trim().parse().ok())
}

#[test]
fn numbers_are_read_from_an_event() {
    let event =
        r#"{"job": 7, "event": "compaction_started", "files_L0": [16, 3], "files_L6": [2], "score": 1}"#;
    let numbers = |mark| numbers_of(event, mark).collect::<Vec<_>>();
    assert_eq!(numbers("\"job\": "), [7]);
    assert_eq!(numbers("files_L0\": ["), [16, 3]);
    assert_eq!(numbers("files_L9\": ["), [] as [u64; 0]);
}

#[test]
fn recycling_ends_with_the_sync_of_its_directory() {
    let rename = |from: &str, to: &str| Operation::Rename { directory: 2, from: from.into(), to: to.into() };
    let (directory, file) = (Operation::Sync { node: 2 }, Operation::Sync { node: 9 });
    let operations = [
        file.clone(),
        rename("1.segment", "5.preparing"),
        directory.clone(),
        file.clone(),
        rename("5.preparing", "5.segment"),
        file,
        directory,
        rename("2.segment", "6.preparing"),
    ];
    let found = recyclings(&operations);
    assert_eq!((found.len(), found.first()), (1, Some(&(2..6))));
}
