//! The model: a list of all versions ever written, and etcd's rules applied to it word by word.

use super::*;
use crate::command::{Projection, RangeResult, Sort, SortOrder, SortTarget};
use crate::types::Error;
use crate::types::record::put_varint;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) id: VersionId,
    pub(super) kv: KeyValue,
    pub(super) is_tombstone: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Oracle {
    pub(super) versions: Vec<Version>,
    pub(super) revision: i64,
    pub(super) floor: Option<i64>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self { versions: Vec::new(), revision: 1, floor: None }
    }
}

impl Oracle {
    pub(super) fn floor(&self) -> i64 {
        self.floor.unwrap_or(0)
    }

    pub(super) fn execute(&mut self, changes: &[Change]) {
        let next = self.revision + 1;
        let mut sub = 0;
        for change in changes {
            let (Change::Put { key, .. } | Change::Delete { key }) = change;
            let before = self.live_at(next).remove(key);
            let (kv, is_tombstone) = match change {
                Change::Put { value, lease, .. } => {
                    let create = before.as_ref().map_or(rev(next), |kv| kv.create_revision);
                    let count = before.as_ref().map_or(1, |kv| kv.version + 1);
                    (KeyValue::new(key, value, create, rev(next), count, LeaseId::new(*lease)), false)
                }
                Change::Delete { .. } if before.is_none() => continue,
                Change::Delete { .. } => {
                    (KeyValue::new(key, b"", Revision::NONE, rev(next), 0, LeaseId::NONE), true)
                }
            };
            self.versions.push(Version { id: version(next, sub), kv, is_tombstone });
            sub += 1;
        }
        self.revision += i64::from(sub > 0);
    }

    fn newest_at(&self, at: i64) -> BTreeMap<Vec<u8>, &Version> {
        let readable = self.versions.iter().filter(|version| version.id.revision <= rev(at));
        readable.map(|version| (version.kv.key().to_vec(), version)).collect()
    }

    pub(super) fn live_at(&self, at: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let newest = self.newest_at(at).into_iter().filter(|(_, version)| !version.is_tombstone);
        newest.map(|(key, version)| (key, version.kv.clone())).collect()
    }

    pub(super) fn compact(&mut self, to: i64) -> Result<()> {
        if self.floor.is_some_and(|floor| to <= floor) {
            return Err(Error::Compacted { floor: rev(self.floor()) });
        }
        if to > self.revision {
            return Err(Error::FutureRevision { current: rev(self.revision) });
        }
        self.floor = Some(to);
        Ok(())
    }

    pub(super) fn range(&self, query: &RangeQuery) -> Result<RangeResult> {
        let at = match query.at {
            ReadAt::Latest => self.revision,
            ReadAt::Revision(at) if at > rev(self.revision) => {
                return Err(Error::FutureRevision { current: rev(self.revision) });
            }
            ReadAt::Revision(at) if at < rev(self.floor()) => {
                return Err(Error::Compacted { floor: rev(self.floor()) });
            }
            ReadAt::Revision(at) => at.get(),
        };
        let inside = |kv: &KeyValue| query.range.contains(kv.key());
        let mut kvs: Vec<KeyValue> = self.live_at(at).into_values().filter(inside).collect();
        let count = kvs.len() as u64;
        if query.projection == Projection::CountOnly {
            return Ok(RangeResult { kvs: Vec::new(), more: false, count });
        }
        kvs.retain(|kv| query.filter.passes(kv.create_revision, kv.mod_revision));
        if let Some(Sort { target, order }) = query.sort {
            let number = |kv: &KeyValue| match target {
                SortTarget::Version => kv.version,
                SortTarget::CreateRevision => kv.create_revision.get(),
                SortTarget::ModRevision => kv.mod_revision.get(),
                SortTarget::Key | SortTarget::Value => 0,
            };
            let text = |kv: &KeyValue| match target {
                SortTarget::Key => kv.key().to_vec(),
                SortTarget::Value => kv.value().to_vec(),
                _ => Vec::new(),
            };
            kvs.sort_by(|a, b| {
                let ascending = (number(a), text(a)).cmp(&(number(b), text(b)));
                if order == SortOrder::Ascending { ascending } else { ascending.reverse() }
            });
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit as usize };
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if query.projection == Projection::KeysOnly {
            kvs = kvs.iter().map(KeyValue::without_value).collect();
        }
        Ok(RangeResult { kvs, more, count })
    }

    /// The events of `from..=to`, with the previous version as a watcher gets it.
    pub(super) fn history(&self, from: i64, to: i64) -> Result<Vec<(Version, Option<KeyValue>)>> {
        if from < self.floor() {
            return Err(Error::Compacted { floor: rev(self.floor()) });
        }
        let inside = |version: &&Version| (rev(from)..=rev(to)).contains(&version.id.revision);
        let with_previous = |version: &Version| {
            let before = version.id.revision.get() - 1;
            let is_create = !version.is_tombstone && version.kv.version == 1;
            let known = !is_create && before >= self.floor();
            let previous = if known { self.live_at(before).remove(version.kv.key()) } else { None };
            (version.clone(), previous)
        };
        Ok(self.versions.iter().filter(inside).map(with_previous).collect())
    }

    /// What is left when everything unreadable is removed.
    pub(super) fn retained(&self) -> Vec<&Version> {
        let Some(floor) = self.floor else { return self.versions.iter().collect() };
        let newest = self.newest_at(floor);
        let is_retained = |version: &&Version| {
            version.id.revision > rev(floor)
                || newest[version.kv.key()].id == version.id
                    && (!version.is_tombstone || version.id.revision == rev(floor))
        };
        self.versions.iter().filter(is_retained).collect()
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        let bytes = |version: &&Version| live_bytes_of(version.kv.key().len(), version.kv.value().len());
        self.retained().iter().map(bytes).sum()
    }

    /// etcd's hash, as its source has it: what `Keep` keeps at the hashed revision, all behind the floor.
    pub(super) fn hash(&self, at: i64) -> u32 {
        let live: BTreeSet<VersionId> = self
            .newest_at(at)
            .into_values()
            .filter(|version| !version.is_tombstone)
            .map(|version| version.id)
            .collect();
        let compact_revision = self.floor.unwrap_or(-1);
        let mut bytes = b"key".to_vec();
        for version in self.retained() {
            let (id, revision) = (version.id, version.id.revision.get());
            let is_scheduled = revision < compact_revision + 1 && !live.is_empty() && !live.contains(&id);
            let is_skipped_tombstone = revision == compact_revision && version.is_tombstone;
            if revision > at || is_scheduled || is_skipped_tombstone {
                continue;
            }
            bytes.extend_from_slice(&revision.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&i64::from(id.sub.get()).to_be_bytes());
            if version.is_tombstone {
                bytes.extend_from_slice(b"t\x0a");
                put_varint(&mut bytes, version.kv.key().len() as u64);
                bytes.extend_from_slice(version.kv.key());
            } else {
                bytes.extend_from_slice(version.kv.encoded());
            }
        }
        crc32c_bitwise(&bytes)
    }
}

/// CRC-32C bit by bit, from its definition.
fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn the_models_checksum_is_crc32c() {
    assert_eq!(crc32c_bitwise(b"123456789"), 0xe306_9283);
}
