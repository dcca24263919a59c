//! `--auto-compaction-*`: compaction by the clock or by a number of revisions, with etcd's timing.

use crate::config::AutoCompaction;
use kvstore::store::{Keyspace, Store};
use kvstore::{Error, KeyspaceId, Revision};
use std::collections::VecDeque;
use std::time::Duration;

/// How often the revision rule is looked at.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// With a retention above this, history is still compacted this often.
const PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Samples of the revision taken between two compactions.
const SAMPLES_PER_PERIOD: u32 = 10;

/// Samples remembered, at most. A retention of more than a year is sampled more coarsely.
const SAMPLES_MAX: u128 = 100_000;

/// Compacts for ever.
pub async fn run(setting: AutoCompaction, store: Store, keyspace: KeyspaceId) {
    let keyspace = store.keyspace(keyspace);
    let mut schedule = Schedule::new(setting);
    loop {
        tokio::time::sleep(schedule.interval).await;
        let due = schedule.look(keyspace.revision());
        // Only the leader compacts: with several members all of them would ask for the same.
        let status = store.status();
        if let Some(revision) = due
            && status.leader == Some(status.node_id)
            && compact(&keyspace, revision).await
        {
            schedule.done(revision);
        }
    }
}

async fn compact(keyspace: &Keyspace, revision: Revision) -> bool {
    match keyspace.compact(revision, false).await {
        Ok(_) => {
            tracing::info!(revision = revision.get(), "completed auto compaction");
            true
        }
        // Somebody else was quicker, kube-apiserver for example.
        Err(Error::Compacted { .. }) => true,
        Err(error) => {
            tracing::warn!(revision = revision.get(), %error, "failed auto compaction");
            false
        }
    }
}

/// When to compact, and to where. Knows no clock: it is asked once per `interval`.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    rule: Rule,
    compacted: Option<Revision>,
}

#[derive(Debug)]
enum Rule {
    /// Keep this many revisions.
    Revisions(i64),
    /// Keep what is younger than `samples_kept` intervals.
    Periodic { samples: VecDeque<Revision>, samples_kept: usize, looks_since: u32 },
}

impl Schedule {
    fn new(setting: AutoCompaction) -> Schedule {
        match setting {
            AutoCompaction::Revisions(kept) => {
                Schedule { interval: REVISIONS_INTERVAL, rule: Rule::Revisions(kept), compacted: None }
            }
            AutoCompaction::Periodic(retention) => {
                let fine = retention.min(PERIOD_MAX) / SAMPLES_PER_PERIOD;
                let coarse = Duration::from_millis(
                    u64::try_from(retention.as_millis() / SAMPLES_MAX).unwrap_or(u64::MAX),
                );
                let interval = fine.max(coarse).max(Duration::from_millis(1));
                let samples_kept = retention.as_nanos().div_ceil(interval.as_nanos());
                let rule = Rule::Periodic {
                    samples: VecDeque::new(),
                    samples_kept: usize::try_from(samples_kept).unwrap_or(usize::MAX).max(1),
                    looks_since: SAMPLES_PER_PERIOD,
                };
                Schedule { interval, rule, compacted: None }
            }
        }
    }

    /// One interval has passed and the store is at `current`: what to compact to, if anything.
    fn look(&mut self, current: Revision) -> Option<Revision> {
        let due = match &mut self.rule {
            Rule::Revisions(kept) => Revision::new((current.get() - *kept).max(0)),
            Rule::Periodic { samples, samples_kept, looks_since } => {
                *looks_since = looks_since.saturating_add(1);
                samples.push_back(current);
                if samples.len() <= *samples_kept {
                    return None;
                }
                if samples.len() > *samples_kept + 1 {
                    samples.pop_front();
                }
                if *looks_since < SAMPLES_PER_PERIOD {
                    return None;
                }
                *samples.front()?
            }
        };
        (due.get() > 0 && Some(due) != self.compacted).then_some(due)
    }

    /// The compaction that was due has happened.
    fn done(&mut self, revision: Revision) {
        self.compacted = Some(revision);
        if let Rule::Periodic { looks_since, .. } = &mut self.rule {
            *looks_since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks `count` times while the revision grows by one each time; what was compacted at which look.
    fn compactions(schedule: &mut Schedule, count: i64) -> Vec<(i64, i64)> {
        let mut happened = Vec::new();
        for at in 1..=count {
            if let Some(revision) = schedule.look(Revision::new(at)) {
                schedule.done(revision);
                happened.push((at, revision.get()));
            }
        }
        happened
    }

    #[test]
    fn a_short_retention_compacts_once_per_retention() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(300)));
        assert_eq!(schedule.interval, Duration::from_secs(30));
        assert_eq!(compactions(&mut schedule, 35), [(11, 1), (21, 11), (31, 21)]);
    }

    #[test]
    fn a_long_retention_compacts_every_hour() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(3 * 3600)));
        assert_eq!(schedule.interval, Duration::from_secs(360));
        assert_eq!(compactions(&mut schedule, 55), [(31, 1), (41, 11), (51, 21)]);
    }

    #[test]
    fn a_failure_is_tried_again_at_the_next_look() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(10)));
        let looked: Vec<Option<Revision>> = (1..=12).map(|at| schedule.look(Revision::new(at))).collect();
        assert_eq!(looked[10..], [Some(Revision::new(1)), Some(Revision::new(2))]);
    }

    #[test]
    fn an_idle_store_is_left_alone() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(10)));
        for at in 1..100 {
            let due = schedule.look(Revision::new(7));
            assert_eq!(due, (at == 11).then(|| Revision::new(7)), "look {at}");
            due.into_iter().for_each(|revision| schedule.done(revision));
        }
    }

    #[test]
    fn revisions_are_counted_from_the_newest() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(100));
        assert_eq!(schedule.interval, Duration::from_secs(300));
        assert_eq!(schedule.look(Revision::new(100)), None);
        assert_eq!(schedule.look(Revision::new(150)), Some(Revision::new(50)));
        schedule.done(Revision::new(50));
        assert_eq!(schedule.look(Revision::new(150)), None);
        assert_eq!(schedule.look(Revision::new(151)), Some(Revision::new(51)));
    }

    #[test]
    fn extreme_retentions_are_bounded() {
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let Rule::Periodic { samples_kept, .. } = Schedule::new(AutoCompaction::Periodic(century)).rule
        else {
            panic!()
        };
        assert!(samples_kept <= 100_001, "{samples_kept}");
        let shortest = Schedule::new(AutoCompaction::Periodic(Duration::from_nanos(1)));
        assert_eq!(shortest.interval, Duration::from_millis(1));
    }
}
