//! The nine guarantees of a watch, each stream held against the whole history:
//!
//! | guarantee | what would break it |
//! |---|---|
//! | ordered | an event of an older revision behind one of a newer, or of an earlier place within one revision |
//! | unique | an event again |
//! | reliable | the next event is not the next one of the history that the watch asks for |
//! | atomic | an answer ends within a revision without saying that a fragment follows |
//! | resumable | a watch from the revision behind the last one misses or repeats something: each piece of a watch begins exactly there and is checked from there |
//! | bookmarkable | progress at a revision before all events up to it, or such an event later |
//! | prev_kv | a version before that is wrong, missing, or there although nobody asked |
//! | filtered | an event that the filters exclude |
//! | bounded | a key outside the range or a revision before the start |
//!
//! One cursor for each watch is enough: the place in the history up to which the watch has everything. An answer must
//! continue there.

use crate::history::{Compactions, Event, Moment, Witness};
use crate::streams::{Log, Message, Options};
use std::collections::{BTreeMap, VecDeque};

/// What the streams have said altogether; a run in which one of these is 0 has not tested much, and a long one fails.
#[derive(Debug, Default)]
pub struct Seen {
    pub watches: usize,
    pub events: usize,
    /// Of streams, on request.
    pub progress: usize,
    /// Of single watches, by themselves.
    pub notifications: usize,
    pub fragments: usize,
    /// Revisions that came in pieces and were whole with the last one.
    pub reassembled: usize,
    pub compacted: usize,
    /// Previous versions that compaction had taken away from a watch's first revision.
    pub previous_compacted: usize,
}

/// Everything that is wrong with the streams.
pub fn faults(logs: &[Log], witness: &Witness, compactions: &Compactions, seen: &mut Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for log in logs {
        let mut stream =
            Stream { witness, compactions, seen, pending: VecDeque::new(), live: BTreeMap::new() };
        for (at, message) in log {
            // After a fault a watch's cursor means nothing any more.
            if let Err(fault) = stream.check(*at, message) {
                faults.push(format!("{fault} (at {at:?})"));
                break;
            }
        }
    }
    faults
}

struct Stream<'a> {
    witness: &'a Witness,
    compactions: &'a Compactions,
    seen: &'a mut Seen,
    /// Asked for and not yet created, with the moment of asking.
    pending: VecDeque<(Moment, Options)>,
    live: BTreeMap<i64, Watch>,
}

struct Watch {
    options: Options,
    /// The first revision that it may be told of.
    from: i64,
    /// The place in the history behind the last event that it was told of.
    cursor: usize,
    /// The highest revision that it was told of or that progress has passed.
    reached: i64,
    /// Whether its last answer was a fragment with more to come.
    split: bool,
    is_canceled: bool,
    /// It began below a floor that was acknowledged before: it must end.
    floor: i64,
}

type Checked = Result<(), String>;

impl Stream<'_> {
    fn check(&mut self, at: Moment, message: &Message) -> Checked {
        match message {
            Message::Create(options) => self.pending.push_back((at, options.clone())),
            Message::Cancel { watch } => {
                if let Some(watch) = self.live.get_mut(watch) {
                    watch.is_canceled = true;
                }
            }
            Message::Created { watch, revision } => self.created(*watch, *revision)?,
            Message::Events { watch, revision, fragment, events } => {
                self.events(at, *watch, *revision, *fragment, events)?;
            }
            Message::Progress { watch, revision } => self.progress(*watch, *revision)?,
            Message::Canceled { watch, compacted, reason } => {
                self.canceled(at, *watch, *compacted, reason)?;
            }
        }
        Ok(())
    }

    fn created(&mut self, id: i64, revision: i64) -> Checked {
        let (asked, options) = self.pending.pop_front().ok_or("a watch that nobody asked for")?;
        self.seen.watches += 1;
        let from = if options.start == 0 { revision + 1 } else { options.start };
        let floor = self.compactions.done(asked);
        let watch = Watch {
            from,
            cursor: self.witness.place_of(from),
            reached: from - 1,
            split: false,
            is_canceled: false,
            floor: if options.start != 0 && options.start < floor { floor } else { 0 },
            options,
        };
        match self.live.insert(id, watch) {
            Some(_) => Err(format!("two watches with id {id}")),
            None => Ok(()),
        }
    }

    fn events(&mut self, at: Moment, id: i64, header: i64, fragment: bool, events: &[Event]) -> Checked {
        let watch = self.live.get_mut(&id).ok_or(format!("events of watch {id}, which is not there"))?;
        self.seen.events += events.len();
        self.seen.fragments += usize::from(fragment);
        if watch.floor > 0 {
            return Err(format!("reliable: a watch from below the floor of {} goes on", watch.floor));
        }
        if fragment && !watch.options.fragment {
            return Err("atomic: a fragment for a watch that did not ask for any".into());
        }
        let reached = watch.reached;
        let is_rest = watch.split && events.first().is_some_and(|first| first.revision() == reached);
        for event in events {
            if event.revision() <= reached && !watch.split {
                // Also an event that progress has passed; the cursor finds out which.
                watch.place(self.witness, event)?;
                return Err(format!("bookmarkable: {event:?} after progress or an answer at {reached}"));
            }
            let missing = watch.take(self.witness, event)?;
            if missing {
                self.seen.previous_compacted += 1;
                if event.revision() != watch.options.start || self.compactions.asked(at) < event.revision() {
                    return Err(format!("prev_kv: missing in {event:?}"));
                }
            }
        }
        let newest = events.last().map_or(0, Event::revision);
        if header < newest {
            return Err(format!("ordered: a header at {header} with {newest} in the answer"));
        }
        watch.reached = newest;
        watch.split = fragment;
        match watch.next(self.witness) {
            Some((_, rest)) if rest.revision() == newest && !fragment => {
                Err(format!("atomic: revision {newest} lacks {rest:?}"))
            }
            _ => {
                self.seen.reassembled += usize::from(is_rest && !fragment);
                Ok(())
            }
        }
    }

    fn progress(&mut self, id: Option<i64>, revision: i64) -> Checked {
        *(if id.is_none() { &mut self.seen.progress } else { &mut self.seen.notifications }) += 1;
        if revision > self.witness.revision() {
            return Err(format!("bookmarkable: progress at {revision}, which never was"));
        }
        let told = self.live.iter_mut().filter(|(watch, _)| id.is_none_or(|id| id == **watch));
        let mut count = 0;
        for (_, watch) in told {
            count += 1;
            if id.is_some() && !watch.options.progress {
                return Err(format!("bookmarkable: progress nobody asked for: {:?}", watch.options));
            }
            if watch.floor > 0 {
                return Err(format!("reliable: progress of a watch below the floor of {}", watch.floor));
            }
            if revision < watch.options.start {
                return Err(format!("bookmarkable: progress at {revision} before {:?}", watch.options));
            }
            if let Some((_, missing)) = watch.next(self.witness)
                && missing.revision() <= revision
                // One that was told to end is owed nothing.
                && !watch.is_canceled
            {
                return Err(format!("bookmarkable: progress at {revision} before {missing:?}"));
            }
            watch.reached = watch.reached.max(revision);
        }
        if count == 0 { Err(format!("progress of watch {id:?}, which is not there")) } else { Ok(()) }
    }

    fn canceled(&mut self, at: Moment, id: i64, compacted: i64, reason: &str) -> Checked {
        let watch = self.live.remove(&id).ok_or(format!("the end of watch {id}, which is not there"))?;
        if compacted == 0 {
            return if watch.is_canceled {
                Ok(())
            } else {
                Err(format!("reliable: ended for no reason {reason:?}"))
            };
        }
        self.seen.compacted += 1;
        let asked = self.compactions.asked(at);
        if compacted > asked {
            return Err(format!(
                "reliable: ended for a floor at {compacted}; nobody asked for more than {asked}"
            ));
        }
        // With the previous version of the next event below the floor it has to end too.
        if compacted <= watch.reached {
            let reached = watch.reached;
            return Err(format!("reliable: ended for a floor at {compacted} that it had passed ({reached})"));
        }
        if compacted < watch.floor {
            return Err(format!("reliable: floor {compacted}, where {} was acknowledged", watch.floor));
        }
        Ok(())
    }
}

impl Watch {
    /// The next event of the history that it wants.
    fn next<'a>(&self, witness: &'a Witness) -> Option<(usize, &'a Event)> {
        let rest = witness.events[self.cursor..].iter().enumerate();
        let mut wanted = rest.filter(|(_, event)| self.options.wants(event));
        wanted.next().map(|(place, event)| (self.cursor + place, event))
    }

    /// Takes an event that must be the next one. Whether its previous version is missing.
    fn take(&mut self, witness: &Witness, event: &Event) -> Result<bool, String> {
        let place = self.place(witness, event)?;
        let (next, expected) = self.next(witness).ok_or("it is in the history")?;
        if next != place {
            return Err(format!("reliable: {expected:?} is missing before {event:?}"));
        }
        if event.record != expected.record {
            return Err(format!("reliable: {event:?} was {expected:?}"));
        }
        self.cursor = place + 1;
        match (&event.previous, &expected.previous) {
            (Some(told), _) if !self.options.previous => Err(format!("prev_kv: nobody asked for {told:?}")),
            (Some(told), Some(was)) if told == was => Ok(false),
            (Some(_), was) => Err(format!("prev_kv: it was {was:?}: {event:?}")),
            (None, was) => Ok(self.options.previous && was.is_some()),
        }
    }

    /// Where in the history the event is, if it may come now.
    fn place(&self, witness: &Witness, event: &Event) -> Result<usize, String> {
        if !self.options.keys.contains(&event.record.key) || event.revision() < self.from {
            return Err(format!("bounded: {event:?} for {:?} from {}", self.options, self.from));
        }
        if !self.options.wants(event) {
            return Err(format!("filtered: {event:?} for {:?}", self.options));
        }
        let same = |other: &Event| other.is_delete == event.is_delete && other.record.key == event.record.key;
        let first = witness.place_of(event.revision());
        let place = witness.at(event.revision()).iter().position(same).map(|place| first + place);
        let place = place.ok_or_else(|| format!("reliable: {event:?} never happened"))?;
        if place < self.cursor {
            return Err(format!("unique, ordered: {event:?} again or too late"));
        }
        Ok(place)
    }
}
