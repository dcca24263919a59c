//! What must be true of a store that is opened after a loss of power.

use crate::hash::hash;
use crate::life::{Fact, Life, Running, Span, TTL_S, put};
use crate::oracle::{Change, Model, Record as Stored};
use crate::steps::LEASES;
use holdfast_power::{Record, Recorder};
use kvstore::command::{RangeQuery, ReadAt};
use kvstore::mvcc::live_bytes_of;
use kvstore::store::{Consistency, Delivered, Delivery, EventKind, Placement, Session, WatchOptions};
use kvstore::{KeyRange, LeaseId, Revision};
use std::collections::BTreeSet;

/// What may be there.
pub struct Expected<'a> {
    life: &'a Life,
    at: usize,
    /// The newest revision that was acknowledged.
    pub acknowledged: i64,
    /// The newest revision that may have been reached.
    pub sent: i64,
    /// What a reader was shown after an opening, since when nobody has written.
    shown: Option<Shown>,
}

struct Shown {
    floor: Option<i64>,
    leases: BTreeSet<i64>,
}

/// What was found.
pub struct Opened {
    pub model: Model,
    /// What was done to the disk before and now.
    pub record: Record,
    /// Where in it the opening began, where the first read was served, and where all was looked at.
    pub opened_from: usize,
    pub served_from: usize,
    pub looked: usize,
}

impl<'a> Expected<'a> {
    pub fn of(life: &'a Life, at: usize) -> Self {
        let revision = life.before.revision();
        let mut expected = Self { life, at, acknowledged: revision, sent: revision, shown: None };
        for (span, fact) in &life.facts {
            if let Fact::Revision(revision) = fact {
                if expected.is_acknowledged(span) {
                    expected.acknowledged = expected.acknowledged.max(*revision);
                }
                if expected.may_have_happened(span) {
                    expected.sent = expected.sent.max(*revision);
                }
            }
        }
        expected
    }

    /// What a reader has seen is not taken back, and what it has not seen does not come.
    pub fn was_shown(&mut self, model: &Model) {
        (self.acknowledged, self.sent) = (model.revision(), model.revision());
        let leases = model.leases.keys().copied().collect();
        self.shown = Some(Shown { floor: model.floor, leases });
    }

    fn is_acknowledged(&self, span: &Span) -> bool {
        span.acknowledged <= self.at
    }

    fn may_have_happened(&self, span: &Span) -> bool {
        span.sent <= self.at
    }

    /// The floors that there may be: the newest acknowledged one, and those that were sent after it.
    fn floors(&self) -> BTreeSet<Option<i64>> {
        if let Some(shown) = &self.shown {
            return BTreeSet::from([shown.floor]);
        }
        let mut floors = BTreeSet::from([self.life.before.floor]);
        for (span, fact) in &self.life.facts {
            if let Fact::Floor(floor) = fact {
                if self.is_acknowledged(span) {
                    floors.clear();
                }
                if self.may_have_happened(span) {
                    floors.insert(Some(*floor));
                }
            }
        }
        floors
    }

    /// Whether the lease may be there, and whether it may be missing, in a store that has reached `revision`.
    fn lease(&self, id: i64, revision: i64) -> (bool, bool) {
        if let Some(shown) = &self.shown {
            let is_there = shown.leases.contains(&id);
            return (is_there, !is_there);
        }
        let was_there = self.life.before.leases.contains_key(&id);
        let (mut may_be, mut may_lack) = (was_there, !was_there);
        for (span, fact) in &self.life.facts {
            let is_there = match fact {
                Fact::Granted(lease) if *lease == id => true,
                Fact::Revoked(lease, _) if *lease == id => false,
                _ => continue,
            };
            // A revocation that deleted keys is whole: there exactly if its revision is.
            let (done, possible) = match fact {
                Fact::Revoked(_, Some(deleted)) => (*deleted <= revision, *deleted <= revision),
                _ => (self.is_acknowledged(span), self.may_have_happened(span)),
            };
            if done {
                (may_be, may_lack) = (is_there, !is_there);
            } else if possible {
                may_be |= is_there;
                may_lack |= !is_there;
            }
        }
        (may_be, may_lack)
    }
}

/// Opens the store on what `disk` left and looks at everything in it.
pub fn check(disk: Record, expected: &Expected<'_>, placement: Placement, about: &str) -> Opened {
    let directory = crate::scratch();
    let root = directory.path().join("disk");
    let image = disk.as_seen(disk.operations().len());
    let opened_from = disk.operations().len();
    let recorder = Recorder::after(&root, disk);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let running = Running::open(&root.join("data"), placement)
            .unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let served_from = recorder.position();
        let model = look(&running, expected);
        let looked = recorder.position();
        write_and_remove(&running, &model);
        running.stop();
        (model, served_from, looked)
    }));
    let record = recorder.finish();
    match result {
        Ok((model, served_from, looked)) => Opened { model, record, opened_from, served_from, looked },
        Err(panic) => {
            let kept = std::env::temp_dir().join(format!("holdfast-power-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&kept);
            image.write(&kept);
            eprintln!("{about}; the disk is kept in {}", kept.display());
            std::panic::resume_unwind(panic)
        }
    }
}

/// A new write works. And once the history before it is removed, no version of it is left: neither one whose removal was
/// lost with the power, nor one that lost only its account.
fn write_and_remove(running: &Running, model: &Model) {
    const KEY: &str = "after";
    const VALUE: &str = "the power came back";
    let write = || running.run(running.kv.transact(put(KEY.into(), VALUE.into()))).expect("a write").revision;
    let revision = write();
    assert_eq!(revision.get(), model.revision() + 1);
    running.run(running.kv.compact(revision, true)).expect("a compaction");
    // The status is that of the last write.
    write();
    let alive = model.now().iter().map(|(key, record)| (key.len(), record.value.len()));
    let written = [(KEY.len(), VALUE.len()); 2];
    let expected: u64 = alive.chain(written).map(|(key, value)| live_bytes_of(key, value)).sum();
    assert_eq!(running.store.status().live_bytes, expected, "bytes of the versions that are left");
}

fn look(running: &Running, expected: &Expected<'_>) -> Model {
    let kv = &running.kv;
    let revision = kv.revision().get();
    let (acknowledged, sent) = (expected.acknowledged, expected.sent);
    assert!(revision >= acknowledged, "revision {acknowledged} was acknowledged, {revision} is all there is");
    assert!(revision <= sent, "revision {revision} is there, only {sent} can have been reached");
    let hash_found = kv.hash_kv(None).expect("a hash");
    let floor = hash_found.compact_revision.map(Revision::get);
    let floors = expected.floors();
    assert!(floors.contains(&floor), "the floor is {floor:?}, it may be one of {floors:?}");

    let mut model = expected.life.after.until(revision);
    model.floor = floor;
    model.leases.clear();
    check_history(running, &model);
    check_states(running, &model);
    for id in LEASES {
        let info = kv.lease_time_to_live(LeaseId::new(id), true).unwrap();
        let (may_be, may_lack) = expected.lease(id, revision);
        assert!(if info.is_some() { may_be } else { may_lack }, "lease {id}: {info:?}");
        if let Some(info) = info {
            assert_eq!(info.keys, model.keys_of(id), "the keys of lease {id}");
            assert_eq!(info.granted_ttl_s, TTL_S);
            model.leases.insert(id, TTL_S);
        }
    }
    let leases = kv.leases().unwrap().into_iter().map(LeaseId::get).collect::<BTreeSet<_>>();
    assert_eq!(leases, model.leases.keys().copied().collect());
    assert_eq!(hash_found.hash, hash(&model), "the hash of the history");
    model
}

/// Every change since the floor, once, in order, whole.
fn check_history(running: &Running, model: &Model) {
    let floor = model.floor.unwrap_or(0);
    if model.revision() <= floor.max(1) {
        return;
    }
    let from = floor.max(1) + 1;
    let session = running.kv.watch();
    let options = WatchOptions {
        previous: true,
        ..WatchOptions::new(KeyRange::all()).from_revision(Revision::new(from))
    };
    session.create(options).expect("a watcher");
    let (told, revision) = told_so_far(running, &session);
    assert_eq!(revision, model.revision());
    let expected: Vec<_> = model.changes.iter().filter(|change| change.revision >= from).cloned().collect();
    assert_eq!(told.len(), expected.len(), "the number of changes since {from}");
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected, "at revision {}", expected.revision);
    }
}

/// All that a session's watcher is told up to now, and the revision that this is.
pub fn told_so_far(running: &Running, session: &Session) -> (Vec<Change>, i64) {
    session.request_progress();
    let mut told = Vec::new();
    loop {
        match running.run(session.next()) {
            Delivery::Created { .. } => {}
            Delivery::Progress { revision, .. } => return (told, revision.get()),
            Delivery::Canceled { reason, .. } => panic!("the watcher is cancelled: {reason:?}"),
            Delivery::Events { events, .. } => told.extend(events.iter().map(change_of)),
        }
    }
}

/// An event, in the model's words.
pub fn change_of(told: &Delivered) -> Change {
    Change {
        revision: told.event.revision().get(),
        is_delete: told.event.kind == EventKind::Delete,
        record: Stored::from(&told.event.kv),
        previous: told.previous.as_ref().map(Stored::from),
    }
}

/// The newest state and some older ones, through the index; and their counts.
fn check_states(running: &Running, model: &Model) {
    let oldest = model.floor.unwrap_or(0).max(1);
    for at in BTreeSet::from([oldest, (oldest + model.revision()) / 2, model.revision()]) {
        let query =
            RangeQuery { at: ReadAt::Revision(Revision::new(at)), ..RangeQuery::new(KeyRange::all()) };
        let found = running.run(running.kv.range(query.clone(), Consistency::Linearizable)).expect("a read");
        let expected = model.range(&query).expect("a readable revision");
        let records: Vec<_> = found.result.kvs.iter().map(Stored::from).collect();
        assert_eq!((records, found.result.count), (expected.records, expected.count), "the state at {at}");
    }
}

#[test]
fn what_an_opening_has_shown_is_all_that_there_may_be_in_the_next() {
    use crate::steps::Step;
    let steps = vec![Step::Grant(1), Step::Revoke(1), Step::Bulk(1, 1)];
    let mut life =
        crate::life::live(&holdfast_power::Image::default(), Model::default(), Placement::Thread, steps);
    let (revocation, _) = life.facts.iter().find(|(_, fact)| matches!(fact, Fact::Revoked(..))).unwrap();
    let Span { sent, .. } = *revocation;
    life.facts.push((Span { sent, acknowledged: usize::MAX }, Fact::Floor(2)));
    let mut expected = Expected::of(&life, sent);
    assert_eq!((expected.lease(1, 1), expected.floors().len()), ((true, true), 2));
    let mut shown = life.after.clone();
    shown.floor = Some(2);
    expected.was_shown(&shown);
    assert_eq!((expected.lease(1, 2), expected.floors()), ((false, true), BTreeSet::from([Some(2)])));
    assert_eq!((expected.acknowledged, expected.sent), (2, 2));
}
