//! One suite for every engine: what [`Engine`] promises, tested against each implementation.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

/// An engine under test, and how to make it crash.
trait Subject: Sized {
    fn new() -> Self;
    fn engine(&self) -> &dyn Engine;
    /// A loss of power and a start.
    fn crash(self) -> Self;
    /// Opens a checkpoint.
    fn open_checkpoint(dir: &Path) -> Box<dyn Engine>;
}

struct Sim(SimEngine);

impl Subject for Sim {
    fn new() -> Self {
        Sim(SimEngine::new())
    }
    fn engine(&self) -> &dyn Engine {
        &self.0
    }
    fn crash(self) -> Self {
        self.0.crash();
        self
    }
    fn open_checkpoint(dir: &Path) -> Box<dyn Engine> {
        Box::new(SimEngine::open_checkpoint(dir).unwrap())
    }
}

struct Rocks {
    engine: RocksEngine,
    home: TempDir,
    lives: usize,
}

impl Subject for Rocks {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(home.path().join("0"), &RocksOptions::default()).unwrap();
        Rocks { engine, home, lives: 1 }
    }
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }
    /// The files as they are while the engine is at rest but open are what a kill would leave.
    fn crash(mut self) -> Self {
        let target = self.home.path().join(self.lives.to_string());
        // The engine may still be merging and removing files: only a copy during which nothing changed is one
        // that a kill could leave.
        while !copy_unchanged(self.engine.dir(), &target) {
            fs::remove_dir_all(&target).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.lives += 1;
        self.engine = RocksEngine::open(target, &RocksOptions::default()).unwrap();
        self
    }
    fn open_checkpoint(dir: &Path) -> Box<dyn Engine> {
        Box::new(RocksEngine::open(dir, &RocksOptions::default()).unwrap())
    }
}

/// Copies a directory; `false` when it changed meanwhile.
fn copy_unchanged(source: &Path, target: &Path) -> bool {
    let listing = || {
        let files = fs::read_dir(source).unwrap().map(|file| {
            let file = file.unwrap();
            (file.file_name(), file.metadata().ok().map(|data| (data.len(), data.modified().ok())))
        });
        files.collect::<BTreeMap<_, _>>()
    };
    let before = listing();
    fs::create_dir(target).unwrap();
    for name in before.keys() {
        match fs::copy(source.join(name), target.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            copied => drop(copied.unwrap()),
        }
    }
    listing() == before
}

/// One test per engine for each function named.
macro_rules! for_each_engine {
    ($($test:ident),* $(,)?) => {
        mod sim { $(#[test] fn $test() { super::$test::<super::Sim>(); })* }
        mod rocks { $(#[test] fn $test() { super::$test::<super::Rocks>(); })* }
    };
}

for_each_engine!(
    reads_see_writes_in_order,
    families_are_apart,
    a_later_change_of_a_batch_wins,
    scans_keep_to_their_bounds,
    a_scan_sees_one_moment,
    a_crash_forgets_what_was_not_flushed,
    a_checkpoint_is_whole_and_independent,
    multi_get_answers_in_order,
    deleted_data_gives_its_space_back,
    it_does_what_ordered_maps_do,
);

fn scan(engine: &dyn Engine, family: Family, from: &[u8], to: &[u8], cache: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    engine.scan(family, from, to, cache, visit).unwrap();
    found
}

fn put(engine: &dyn Engine, family: Family, key: &'static str, value: &'static str) {
    let mut batch = Batch::default();
    batch.put(family, key, value);
    engine.write(batch).unwrap();
}

fn get(engine: &dyn Engine, family: Family, key: &str) -> Option<Bytes> {
    engine.get(family, key.as_bytes()).unwrap()
}

fn reads_see_writes_in_order<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    assert_eq!(get(engine, Family::Heads, "a"), None);
    put(engine, Family::Heads, "a", "1");
    put(engine, Family::Heads, "a", "2");
    assert_eq!(get(engine, Family::Heads, "a").as_deref(), Some(&b"2"[..]));
    let mut batch = Batch::default();
    batch.delete(Family::Heads, "a");
    batch.delete(Family::Heads, "never there");
    engine.write(batch).unwrap();
    assert_eq!(get(engine, Family::Heads, "a"), None);
    engine.write(Batch::default()).unwrap();
    put(engine, Family::Heads, "empty", "");
    assert_eq!(get(engine, Family::Heads, "empty").as_deref(), Some(&b""[..]));
}

fn families_are_apart<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    let mut batch = Batch::default();
    batch.put(Family::Revisions, "k", "revisions");
    batch.put(Family::Heads, "k", "heads");
    batch.put(Family::Meta, "k", "meta");
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    let mut batch = Batch::default();
    batch.delete(Family::Heads, "k");
    engine.write(batch).unwrap();
    assert_eq!(get(engine, Family::Revisions, "k").as_deref(), Some(&b"revisions"[..]));
    assert_eq!(get(engine, Family::Heads, "k"), None);
    assert_eq!(scan(engine, Family::Meta, b"", b"", true), vec![(b"k".to_vec(), b"meta".to_vec())]);
}

fn a_later_change_of_a_batch_wins<S: Subject>() {
    let subject = S::new();
    let mut batch = Batch::default();
    batch.put(Family::Meta, "a", "1");
    batch.delete(Family::Meta, "a");
    batch.delete(Family::Meta, "b");
    batch.put(Family::Meta, "b", "2");
    subject.engine().write(batch).unwrap();
    assert_eq!(get(subject.engine(), Family::Meta, "a"), None);
    assert_eq!(get(subject.engine(), Family::Meta, "b").as_deref(), Some(&b"2"[..]));
}

fn scans_keep_to_their_bounds<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    for key in ["a", "b", "ba", "c", "d"] {
        put(engine, Family::Heads, key, "v");
    }
    engine.flush().unwrap();
    put(engine, Family::Heads, "bb", "v");
    let keys = |from: &[u8], to: &[u8], cache| -> String {
        let found = scan(engine, Family::Heads, from, to, cache);
        found.iter().map(|(key, _)| String::from_utf8_lossy(key)).collect::<Vec<_>>().join(" ")
    };
    for cache in [false, true] {
        assert_eq!(keys(b"", b"", cache), "a b ba bb c d");
        assert_eq!(keys(b"b", b"c", cache), "b ba bb");
        assert_eq!(keys(b"b\0", b"", cache), "ba bb c d");
        assert_eq!(keys(b"", b"b", cache), "a");
        assert_eq!(keys(b"c", b"c", cache), "");
        assert_eq!(keys(b"d", b"a", cache), "");
        assert_eq!(keys(b"e", b"", cache), "");
    }
    let mut visited = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        visited += 1;
        if visited == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    engine.scan(Family::Heads, b"", b"", true, visit).unwrap();
    assert_eq!(visited, 2);
}

fn a_scan_sees_one_moment<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    put(engine, Family::Heads, "a", "old");
    put(engine, Family::Heads, "b", "old");
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        let mut batch = Batch::default();
        batch.put(Family::Heads, "b", "new");
        batch.put(Family::Heads, "c", "new");
        engine.write(batch).unwrap();
        engine.flush().unwrap();
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    engine.scan(Family::Heads, b"", b"", true, visit).unwrap();
    assert_eq!(found, vec![(b"a".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
    assert_eq!(get(engine, Family::Heads, "b").as_deref(), Some(&b"new"[..]));
}

fn a_crash_forgets_what_was_not_flushed<S: Subject>() {
    let mut subject = S::new();
    put(subject.engine(), Family::Meta, "applied", "1");
    subject = subject.crash();
    assert_eq!(get(subject.engine(), Family::Meta, "applied"), None, "nothing was ever flushed");

    let mut batch = Batch::default();
    batch.put(Family::Meta, "applied", "1");
    batch.put(Family::Revisions, "1", "v");
    batch.put(Family::Heads, "k", "1");
    subject.engine().write(batch).unwrap();
    subject.engine().flush().unwrap();
    subject.engine().flush().unwrap();
    let mut batch = Batch::default();
    batch.put(Family::Meta, "applied", "2");
    batch.put(Family::Revisions, "2", "v");
    batch.delete(Family::Heads, "k");
    subject.engine().write(batch).unwrap();
    for _ in 0..2 {
        subject = subject.crash();
        let engine = subject.engine();
        assert_eq!(get(engine, Family::Meta, "applied").as_deref(), Some(&b"1"[..]));
        assert_eq!(scan(engine, Family::Revisions, b"", b"", false), vec![(b"1".to_vec(), b"v".to_vec())]);
        assert_eq!(get(engine, Family::Heads, "k").as_deref(), Some(&b"1"[..]));
    }
    put(subject.engine(), Family::Meta, "applied", "3");
    subject.engine().flush().unwrap();
    subject = subject.crash();
    assert_eq!(get(subject.engine(), Family::Meta, "applied").as_deref(), Some(&b"3"[..]));
}

fn a_checkpoint_is_whole_and_independent<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    let home = tempfile::tempdir().unwrap();
    put(engine, Family::Revisions, "1", "flushed");
    engine.flush().unwrap();
    put(engine, Family::Heads, "k", "written only");
    let target = home.path().join("copy");
    engine.checkpoint(&target).unwrap();
    assert!(engine.checkpoint(&target).is_err(), "the target must not exist yet");
    put(engine, Family::Heads, "k", "later");
    let copy = S::open_checkpoint(&target);
    assert_eq!(get(&*copy, Family::Revisions, "1").as_deref(), Some(&b"flushed"[..]));
    assert_eq!(get(&*copy, Family::Heads, "k").as_deref(), Some(&b"written only"[..]));
    put(&*copy, Family::Revisions, "1", "changed in the copy");
    copy.flush().unwrap();
    assert_eq!(get(engine, Family::Revisions, "1").as_deref(), Some(&b"flushed"[..]));
    assert_eq!(get(engine, Family::Heads, "k").as_deref(), Some(&b"later"[..]));
}

fn multi_get_answers_in_order<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    let mut batch = Batch::default();
    for number in 0..2000u32 {
        batch.put(Family::Revisions, number.to_be_bytes().to_vec(), vec![number as u8; number as usize % 50]);
    }
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    let numbers: Vec<u32> = (0..3000).map(|n| n * 7919 % 2500).collect();
    let keys: Vec<Bytes> = numbers.iter().map(|n| n.to_be_bytes().to_vec().into()).collect();
    let values = engine.multi_get(Family::Revisions, &keys).unwrap();
    assert_eq!(values.len(), keys.len());
    for (number, value) in numbers.iter().zip(values) {
        let expected = (*number < 2000).then(|| Bytes::from(vec![*number as u8; *number as usize % 50]));
        assert_eq!(value, expected);
    }
    assert!(engine.multi_get(Family::Heads, &[]).unwrap().is_empty());
}

fn deleted_data_gives_its_space_back<S: Subject>() {
    let subject = S::new();
    let engine = subject.engine();
    let mut noise = 1u64;
    for number in 0..16_000u32 {
        let mut batch = Batch::default();
        let value: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(512)
        .collect();
        batch.put(Family::Revisions, number.to_be_bytes().to_vec(), value);
        engine.write(batch).unwrap();
    }
    engine.flush().unwrap();
    let full = engine.disk_bytes();
    assert!(full >= 16_000 * 512, "{full}");
    let mut batch = Batch::default();
    for number in 0..15_000u32 {
        batch.delete(Family::Revisions, number.to_be_bytes().to_vec());
    }
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while engine.disk_bytes() > full / 4 {
        assert!(std::time::Instant::now() < deadline, "{} of {full} bytes", engine.disk_bytes());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(scan(engine, Family::Revisions, b"", b"", false).len(), 1000);
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, u8, Option<u8>)>),
    Flush,
    Crash,
    Scan(u8, u8, u8),
}

fn it_does_what_ordered_maps_do<S: Subject>() {
    let change = (0..3u8, 0..30u8, proptest::option::weighted(0.7, any::<u8>()));
    let step = prop_oneof![
        8 => prop::collection::vec(change, 0..6).prop_map(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        3 => (0..3u8, 0..32u8, 0..32u8).prop_map(|(family, from, to)| Step::Scan(family, from, to)),
    ];
    let steps = prop::collection::vec(step, 0..40);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(24) });
    let result = runner.run(&steps, |steps| {
        run::<S>(steps);
        Ok(())
    });
    result.unwrap();
}

fn run<S: Subject>(steps: Vec<Step>) {
    let mut subject = S::new();
    let mut written: [BTreeMap<Vec<u8>, Vec<u8>>; 3] = Default::default();
    let mut flushed = written.clone();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let mut batch = Batch::default();
                for (family, key, value) in changes {
                    let place = &mut written[family as usize];
                    let family = Family::ALL[family as usize];
                    if let Some(value) = value {
                        place.insert(vec![key], vec![value]);
                        batch.put(family, vec![key], vec![value]);
                    } else {
                        place.remove(&[key][..]);
                        batch.delete(family, vec![key]);
                    }
                }
                subject.engine().write(batch).unwrap();
            }
            Step::Flush => {
                subject.engine().flush().unwrap();
                flushed = written.clone();
            }
            Step::Crash => {
                subject = subject.crash();
                written = flushed.clone();
            }
            Step::Scan(family, from, to) => {
                let expected: Vec<_> = written[family as usize]
                    .iter()
                    .filter(|(key, _)| key[0] >= from && key[0] < to)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let family = Family::ALL[family as usize];
                assert_eq!(scan(subject.engine(), family, &[from], &[to], from % 2 == 0), expected);
            }
        }
    }
    for (family, expected) in Family::ALL.into_iter().zip(written) {
        let found: BTreeMap<_, _> = scan(subject.engine(), family, b"", b"", false).into_iter().collect();
        assert_eq!(found, expected);
        for (key, value) in expected {
            assert_eq!(subject.engine().get(family, &key).unwrap().as_deref(), Some(&value[..]));
        }
    }
}
