//! A key or an interval of keys.

use bytes::Bytes;

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// The range is the one key `start`.
    Single,
    /// Every key from `start` on.
    Unbounded,
    /// Every key from `start` on and below this one.
    Before(Bytes),
}

/// One key, or the half-open interval of keys from `start`.
///
/// ```
/// use kvstore::KeyRange;
/// assert!(KeyRange::prefix("/a/").contains(b"/a/b"));
/// assert!(!KeyRange::single("/a").contains(b"/a/b"));
/// assert!(KeyRange::from("/b").contains(b"/c"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// Just `key`.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }
    /// Every key ≥ `key`.
    pub fn from(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Unbounded }
    }
    /// Every key of the keyspace.
    pub fn all() -> Self {
        Self::from(Bytes::new())
    }
    /// Keys ≥ `start` and < `end`; empty when `start` ≥ `end`.
    pub fn span(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: RangeEnd::Before(end.into()) }
    }
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { start, end: RangeEnd::Before(end.into()) };
            }
        }
        Self::from(start)
    }
    /// Whether this is one key by form (not an interval that happens to hold one key).
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }
    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if self.start >= end)
    }
    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Unbounded => key >= &self.start[..],
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
        }
    }
    /// Whether `key` lies at or behind the end, so that a walk in key order may stop.
    pub fn is_past(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key > &self.start[..],
            RangeEnd::Unbounded => false,
            RangeEnd::Before(end) => key >= &end[..],
        }
    }
    /// Whether the two have a key in common.
    pub fn intersects(&self, other: &KeyRange) -> bool {
        fn below(start: &Bytes, range: &KeyRange) -> bool {
            match &range.end {
                RangeEnd::Single => *start <= range.start,
                RangeEnd::Unbounded => true,
                RangeEnd::Before(end) => start < end,
            }
        }
        !self.is_empty() && !other.is_empty() && below(&self.start, other) && below(&other.start, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_of_ff_bytes_is_unbounded() {
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end, RangeEnd::Unbounded);
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]).end, RangeEnd::Before(Bytes::from_static(b"b")));
    }

    #[test]
    fn intersections() {
        let span = |a: &'static str, b: &'static str| KeyRange::span(a, b);
        assert!(span("a", "c").intersects(&span("b", "d")));
        assert!(!span("a", "b").intersects(&span("b", "d")));
        assert!(!span("b", "a").intersects(&KeyRange::all()));
        assert!(KeyRange::single("b").intersects(&span("a", "c")));
        assert!(!KeyRange::single("c").intersects(&span("a", "c")));
        assert!(KeyRange::from("b").intersects(&KeyRange::single("z")));
    }
}
