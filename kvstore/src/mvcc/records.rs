//! Reading `Revisions`: by version, and in time order.

use super::keys::{self, Record, RecordView};
use crate::storage::{DAMAGE_ADVICE, Engine, EngineError, Family, STATE_DIR};
use crate::types::{Error, KeyspaceId, Result, Revision, SubRevision, VersionId};
use bytes::Bytes;
use std::ops::ControlFlow;

/// How many versions one multi-get asks for at most: the engine keeps the blocks of a whole call in memory.
const MULTI_GET_MAX: usize = 1024;

/// From so many versions on it is worth a look whether they lie side by side.
const NEIGHBOURS_MIN: usize = 16;

/// A walk over a stretch of time costs a third or less of asking for each of its versions, so that it may pass so many
/// others between two that are wanted.
const PASSED_FOR_EACH: usize = 3;

/// And so many bytes of others in all: the walk may be made where everybody waits.
const PASSED_BYTES_MAX: usize = 1 << 20;

/// The records of one keyspace: what the engine has, and behind it what the writer has not written yet.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) keyspace: KeyspaceId,
    /// Ascending; empty for readers. Once the engine has the same versions, these still win.
    pub(super) unwritten: &'a [(VersionId, Bytes)],
}

impl Records<'_> {
    /// The records of `ids` in their order; `None` for one that is not (or no longer) there.
    pub(super) fn get_many(&self, ids: &[VersionId]) -> Result<Vec<Option<Record>>> {
        let mut found: Vec<Option<Bytes>> = vec![None; ids.len()];
        let mut written = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            match self.unwritten.binary_search_by_key(id, |(id, _)| *id) {
                Ok(at) => found[place] = Some(self.unwritten[at].1.clone()),
                Err(_) => written.push((*id, place)),
            }
        }
        self.get_neighbours(&mut written, &mut found)?;
        for chunk in written.chunks(MULTI_GET_MAX) {
            let keys: Vec<Bytes> =
                chunk.iter().map(|(id, _)| Bytes::copy_from_slice(&self.bound(*id))).collect();
            let values = self.engine.multi_get(Family::Revisions, &keys).map_err(engine_failed)?;
            for ((_, place), value) in chunk.iter().zip(values) {
                found[*place] = value;
            }
        }
        let decode = |(bytes, id): (Option<Bytes>, &VersionId)| match bytes {
            None => Ok(None),
            Some(bytes) => Record::decode(bytes).map(Some).ok_or_else(|| damaged_record(*id)),
        };
        found.into_iter().zip(ids).map(decode).collect()
    }

    /// Walks over those of the versions that `wanted` names that lie close together in time, as those of keys that were
    /// created one after the other do, and takes out of `wanted` what needs not be asked for any more.
    fn get_neighbours(
        &self,
        wanted: &mut Vec<(VersionId, usize)>,
        found: &mut [Option<Bytes>],
    ) -> Result<()> {
        if wanted.len() < NEIGHBOURS_MIN {
            return Ok(());
        }
        wanted.sort_unstable();
        let mut strangers = Vec::new();
        let near = |a: &(VersionId, usize), b: &(VersionId, usize)| {
            b.0.revision.get() - a.0.revision.get() <= 1 + PASSED_FOR_EACH as i64
        };
        for stretch in wanted.chunk_by(near) {
            let read = if stretch.len() < NEIGHBOURS_MIN { 0 } else { self.walk(stretch, found)? };
            strangers.extend_from_slice(&stretch[read..]);
        }
        *wanted = strangers;
        Ok(())
    }

    /// Reads a stretch of time with all of `wanted`; gives how many of them it came to.
    fn walk(&self, wanted: &[(VersionId, usize)], found: &mut [Option<Bytes>]) -> Result<usize> {
        let budget = wanted.len() * (1 + PASSED_FOR_EACH);
        let (mut at, mut visited, mut passed_bytes, mut is_given_up) = (0, 0, 0, false);
        let mut damaged = None;
        let mut each = |key: &[u8], value: &[u8]| {
            let Some(id) = keys::parse_revision_key(key) else {
                damaged = Some(Error::Poisoned("a key of the revisions has a wrong length".into()));
                return ControlFlow::Break(());
            };
            visited += 1;
            // What is not there is passed by.
            while wanted.get(at).is_some_and(|(wanted, _)| *wanted < id) {
                at += 1;
            }
            if wanted.get(at).is_none_or(|(wanted, _)| *wanted != id) {
                passed_bytes += value.len();
            }
            while let Some((_, place)) = wanted.get(at).filter(|(wanted, _)| *wanted == id) {
                found[*place] = Some(Bytes::copy_from_slice(value));
                at += 1;
            }
            // A revision may have any number of versions, and they any size: this is no stretch to be walked.
            is_given_up = visited == budget || passed_bytes > PASSED_BYTES_MAX;
            if at == wanted.len() || is_given_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (first, last) = (wanted[0].0, wanted[wanted.len() - 1].0);
        let end = self.bound(VersionId::new(last.revision.next(), SubRevision::new(0)));
        self.engine
            .scan(Family::Revisions, &self.bound(first), &end, true, &mut each)
            .map_err(engine_failed)?;
        damaged.map_or(Ok(()), Err)?;
        Ok(if is_given_up { at } else { wanted.len() })
    }

    /// The record of `id`, if it is there.
    pub(super) fn get(&self, id: VersionId) -> Result<Option<Record>> {
        Ok(self.get_many(&[id])?.pop().flatten())
    }

    /// Visits the records from version `from` on to the end of revision `to`, in time order, on a snapshot
    /// of the moment of the first visit or before. An error of `visit` ends the walk.
    pub(super) fn scan(
        &self,
        from: VersionId,
        to: Revision,
        mut visit: impl FnMut(VersionId, RecordView<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let end = VersionId::new(to.next(), SubRevision::new(0));
        let split = self.unwritten.first().map_or(end, |(first, _)| end.min(*first));
        let mut outcome = Ok(ControlFlow::Continue(()));
        if from < split {
            let (start, stop) = (self.bound(from), self.bound(split));
            let mut each = |key: &[u8], value: &[u8]| {
                let step = match (keys::parse_revision_key(key), RecordView::parse(value)) {
                    (Some(id), Some(record)) => visit(id, record),
                    (Some(id), None) => Err(damaged_record(id)),
                    (None, _) => Err(Error::Poisoned("a key of the revisions has a wrong length".into())),
                };
                let goes_on = matches!(step, Ok(ControlFlow::Continue(())));
                outcome = step;
                if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            // Walks in time order are for maintenance and catch-up: they must not push hot blocks out.
            self.engine.scan(Family::Revisions, &start, &stop, false, &mut each).map_err(engine_failed)?;
        }
        for (id, bytes) in self.unwritten.iter().filter(|(id, _)| *id >= from && *id < end) {
            if outcome? == ControlFlow::Break(()) {
                return Ok(());
            }
            let record = RecordView::parse(bytes).ok_or_else(|| damaged_record(*id))?;
            outcome = visit(*id, record);
        }
        outcome.map(|_| ())
    }

    fn bound(&self, id: VersionId) -> [u8; keys::REVISION_KEY_BYTES] {
        keys::revision_key(self.keyspace, id)
    }
}

/// What to do about a read that the system refuses.
fn advice(message: &str) -> &'static str {
    if message.contains("Too many open files") {
        "raise the limit of open files (ulimit -n) and start again"
    } else if message.contains("Permission denied") {
        "check the owner, the mode and the mount, and try again"
    } else {
        "look for errors of this disk in the system's log, and try again once it works"
    }
}

/// A read of the engine has failed. It ends the store if applying the log needs it.
pub(super) fn engine_failed(error: EngineError) -> Error {
    // The client is told too, but it is the operator who can do something.
    match Error::from(error) {
        error @ Error::Damaged { .. } => {
            tracing::error!(%error, "damaged data was found");
            error
        }
        Error::Poisoned(what) => {
            tracing::error!(error = what, "data could not be read");
            let advice = advice(&what);
            Error::Unreadable(format!("{what}; {advice}"))
        }
        other => other,
    }
}

pub(super) fn damaged_record(id: VersionId) -> Error {
    bad_record(id, "damaged")
}

pub(super) fn missing_record(id: VersionId) -> Error {
    bad_record(id, "missing")
}

fn bad_record(id: VersionId, what: &str) -> Error {
    let reason =
        format!("the record of revision {}, position {} is {what}; {DAMAGE_ADVICE}", id.revision, id.sub);
    tracing::error!(reason, "damaged data was found");
    // The engine has no word for the file: each of its tables is sound.
    Error::Damaged { path: STATE_DIR.into(), offset: 0, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, SimEngine};
    use crate::types::{KeyValue, LeaseId};

    fn id(revision: i64, sub: u32) -> VersionId {
        VersionId::new(Revision::new(revision), SubRevision::new(sub))
    }

    /// An engine with all versions of `present`, each of which says its name in its value.
    fn engine(present: impl Iterator<Item = VersionId>) -> SimEngine {
        let engine = SimEngine::new();
        let mut batch = Batch::default();
        for id in present {
            let kv =
                KeyValue::new(b"k", format!("{id:?}").as_bytes(), id.revision, id.revision, 1, LeaseId::NONE);
            let record = keys::encode_record(keys::RecordKind::Create, None, &kv);
            let key = keys::revision_key(KeyspaceId::DEFAULT, id);
            batch.put(Family::Revisions, Bytes::copy_from_slice(&key), record);
        }
        engine.write(batch).unwrap();
        engine
    }

    /// Whatever way they are read: the named ones, in the order in which they were named.
    fn check(engine: &SimEngine, wanted: &[VersionId], is_there: impl Fn(&VersionId) -> bool) {
        let records = Records { engine, keyspace: KeyspaceId::DEFAULT, unwritten: &[] };
        let found = records.get_many(wanted).unwrap();
        for (id, record) in wanted.iter().zip(found) {
            let value = record.map(|record| String::from_utf8(record.kv.value().to_vec()).unwrap());
            assert_eq!(value, is_there(id).then(|| format!("{id:?}")), "{id:?} of {wanted:?}");
        }
    }

    #[test]
    fn neighbours_are_found_like_strangers() {
        let is_there = |id: &VersionId| id.revision.get() % 7 != 3;
        let all =
            (1..2_000).flat_map(|revision| (0..1 + revision as u32 % 3).map(move |sub| id(revision, sub)));
        let engine = engine(all.filter(is_there));
        let is_there = |id: &VersionId| {
            is_there(id) && id.revision.get() < 2_000 && id.sub.get() < 1 + id.revision.get() as u32 % 3
        };
        for step in [1, 2, 3, 4, 5, 40] {
            for (from, count) in [(100, 15), (100, 16), (100, 40), (1_900, 99), (1, 300)] {
                let mut wanted: Vec<_> = (0..count).map(|n| id(from + n * step, (n % 4) as u32)).collect();
                check(&engine, &wanted, is_there);
                wanted.extend((0..20).map(|n| id(5 + n * 97, 0))); // Strangers among them.
                check(&engine, &wanted, is_there);
                wanted.reverse();
                wanted.push(wanted[3]);
                check(&engine, &wanted, is_there);
            }
        }
        check(&engine, &[], is_there);
    }

    /// Megabytes of others between those that are wanted: the walk gives up there too.
    #[test]
    fn heavy_neighbours_end_the_walk() {
        let engine = engine((1..60).map(|revision| id(revision, 0)));
        let heavy = KeyValue::new(
            b"h",
            &vec![b'x'; PASSED_BYTES_MAX / 4],
            Revision::FIRST,
            Revision::FIRST,
            1,
            LeaseId::NONE,
        );
        let mut batch = Batch::default();
        for revision in 1..60 {
            let key = keys::revision_key(KeyspaceId::DEFAULT, id(revision, 1));
            let record = keys::encode_record(keys::RecordKind::Create, None, &heavy);
            batch.put(Family::Revisions, Bytes::copy_from_slice(&key), record);
        }
        engine.write(batch).unwrap();
        let wanted: Vec<_> = (1..60).map(|revision| id(revision, 0)).collect();
        check(&engine, &wanted, |_| true);
        let numbered: Vec<_> = wanted.iter().copied().zip(0..).collect();
        let records = Records { engine: &engine, keyspace: KeyspaceId::DEFAULT, unwritten: &[] };
        let read = records.walk(&numbered, &mut vec![None; numbered.len()]).unwrap();
        assert!((4..10).contains(&read), "{read} of {} were walked to", numbered.len());
    }

    /// Hundreds of versions in a revision between two that are wanted: the walk gives up, and nothing is missing.
    #[test]
    fn crowded_revisions_end_the_walk() {
        let engine = engine((1..60).flat_map(|revision| (0..100).map(move |sub| id(revision, sub))));
        let wanted: Vec<_> = (1..60).map(|revision| id(revision, 99)).collect();
        check(&engine, &wanted, |_| true);
    }
}
