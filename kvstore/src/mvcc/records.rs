//! Reading `Revisions`: by version, and in time order.

use super::keys::{self, Record, RecordView};
use crate::storage::{DAMAGE_ADVICE, Engine, EngineError, Family, STATE_DIR};
use crate::types::{Error, KeyspaceId, Result, Revision, SubRevision, VersionId};
use bytes::Bytes;
use std::ops::ControlFlow;

/// How many versions one multi-get asks for at most: the engine keeps the blocks of a whole call in memory.
const MULTI_GET_MAX: usize = 1024;

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
        let mut places = Vec::new();
        let mut wanted = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            match self.unwritten.binary_search_by_key(id, |(id, _)| *id) {
                Ok(at) => found[place] = Some(self.unwritten[at].1.clone()),
                Err(_) => {
                    places.push(place);
                    wanted.push(Bytes::copy_from_slice(&keys::revision_key(self.keyspace, *id)));
                }
            }
        }
        for (places, wanted) in places.chunks(MULTI_GET_MAX).zip(wanted.chunks(MULTI_GET_MAX)) {
            let values = self.engine.multi_get(Family::Revisions, wanted).map_err(engine_failed)?;
            for (place, value) in places.iter().zip(values) {
                found[*place] = value;
            }
        }
        let decode = |(bytes, id): (Option<Bytes>, &VersionId)| match bytes {
            None => Ok(None),
            Some(bytes) => Record::decode(bytes).map(Some).ok_or_else(|| damaged_record(*id)),
        };
        found.into_iter().zip(ids).map(decode).collect()
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

/// An engine's failure is final: whoever sees this error stops the store.
pub(super) fn engine_failed(error: EngineError) -> Error {
    let error = Error::from(error);
    if matches!(error, Error::Damaged { .. }) {
        // The client is told too, but it is the operator who can do something.
        tracing::error!(%error, "damaged data was found");
    }
    error
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
