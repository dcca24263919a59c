//! Where each entry of the log lies: 24 bytes of memory for each.

use super::format::Sequence;
use crate::types::LogIndex;
use std::collections::VecDeque;

/// One entry's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub sequence: Sequence,
    /// Of the record in its segment.
    pub offset: u64,
    /// Of the record, its header included.
    pub bytes: u32,
}

/// The slots of consecutive entries. Sequences never fall with rising index: what replaces an entry is written
/// later, and everything behind the replaced entry goes with it.
#[derive(Debug)]
pub(super) struct Table {
    slots: VecDeque<Slot>,
    last: LogIndex,
}

impl Table {
    /// A log without entries, the next of which comes behind `last`.
    pub fn starting_after(last: LogIndex) -> Self {
        Self { slots: VecDeque::new(), last }
    }

    /// The first entry that is there; one above the last if there is none.
    pub fn first_index(&self) -> LogIndex {
        LogIndex::new(self.last.get() - self.slots.len() as u64 + 1)
    }

    pub fn last_index(&self) -> LogIndex {
        self.last
    }

    /// Whether an entry of this index continues the log or replaces a suffix of it.
    pub fn accepts(&self, index: LogIndex) -> bool {
        self.first_index() <= index && index <= self.last.next()
    }

    /// Adds the entry `index`; it and all above it that were there are forgotten.
    pub fn set(&mut self, index: LogIndex, slot: Slot) {
        assert!(
            self.accepts(index),
            "entry {index} neither continues nor replaces a log that ends at {}",
            self.last
        );
        self.slots.truncate((index.get() - self.first_index().get()) as usize);
        self.slots.push_back(slot);
        self.last = index;
    }

    pub fn get(&self, index: LogIndex) -> Option<Slot> {
        let at = index.get().checked_sub(self.first_index().get())?;
        self.slots.get(usize::try_from(at).ok()?).copied()
    }

    /// The oldest segment that holds an entry ≥ `keep_from`.
    pub fn oldest_needed(&self, keep_from: LogIndex) -> Option<Sequence> {
        self.get(keep_from.max(self.first_index())).map(|slot| slot.sequence)
    }

    /// Forgets the entries in segments before `sequence`.
    pub fn forget_before(&mut self, sequence: Sequence) {
        while self.slots.front().is_some_and(|slot| slot.sequence < sequence) {
            self.slots.pop_front();
        }
        if self.slots.capacity() > 4 * self.slots.len() + 1024 {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_cuts_what_follows() {
        assert_eq!(size_of::<Slot>(), 24);
        let slot = |sequence| Slot { sequence: Sequence(sequence), offset: 0, bytes: 0 };
        let mut table = Table::starting_after(LogIndex::new(4));
        assert_eq!((table.first_index().get(), table.last_index().get()), (5, 4));
        for index in 5..10 {
            table.set(LogIndex::new(index), slot(index / 4));
        }
        table.set(LogIndex::new(7), slot(3));
        assert_eq!((table.first_index().get(), table.last_index().get()), (5, 7));
        assert!(!table.accepts(LogIndex::new(4)) && !table.accepts(LogIndex::new(9)));
        assert_eq!(table.oldest_needed(LogIndex::new(7)), Some(Sequence(3)));
        assert_eq!(table.oldest_needed(LogIndex::new(1)), Some(Sequence(1)));
        assert_eq!(table.oldest_needed(LogIndex::new(8)), None);
        table.forget_before(Sequence(3));
        assert_eq!((table.first_index().get(), table.last_index().get()), (7, 7));
        table.forget_before(Sequence(9));
        assert_eq!((table.first_index().get(), table.last_index().get()), (8, 7));
    }
}
