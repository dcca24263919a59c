//! What is done, the same to both subjects.

use crate::Failure;
use bytes::Bytes;
use holdfast_benches::commands::key;
use holdfast_benches::requests::Random;

/// A page of kube-apiserver's list, and the keys there are: a page is always full.
pub const PAGE: u64 = 500;
/// Watchers that each watched put is told to.
pub const WATCHERS: u64 = 16;
/// The key that is watched; no page has it.
pub const WATCHED: &str = "/registry/watched";
/// What the keys of a page begin with.
pub const PAGED: &str = "/registry/pods/";
const VALUE_BYTES: usize = 1024;
/// Of each kind, before anything is counted: the first of a kind builds what later ones find.
const WARM_UP: u64 = 8;

/// What a run without any operation is called.
pub const NOTHING: &str = "nothing";

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put,
    Get,
    Page,
    WatchedPut,
}

impl Operation {
    /// The put comes first: watched ones are compared with it.
    pub const ALL: [Operation; 4] = [Operation::Put, Operation::Get, Operation::Page, Operation::WatchedPut];

    /// What one costs is called by this.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Page => "page-of-500",
            Operation::WatchedPut => "watch-event",
        }
    }

    /// `None` is the run that everything is compared with.
    pub fn named(name: &str) -> Result<Option<Operation>, Failure> {
        match Operation::ALL.into_iter().find(|operation| operation.name() == name) {
            None if name != NOTHING => Err(format!("there is no operation {name:?}").into()),
            found => Ok(found),
        }
    }

    /// How many there are in a run: so many that what varies between two starts is a small part of it.
    fn count(self) -> u64 {
        match self {
            Operation::Put | Operation::WatchedPut => 300,
            Operation::Get => 1_000,
            Operation::Page => 60,
        }
    }

    /// How many there are in a run of what one figure is for.
    pub fn divisor(self) -> u64 {
        match self {
            Operation::WatchedPut => self.count() * WATCHERS,
            _ => self.count(),
        }
    }
}

/// What can be asked of a store, directly or over the wire.
pub trait Subject {
    /// Puts these in one transaction.
    async fn fill(&mut self, keys: Vec<Bytes>, value: Bytes) -> Result<(), Failure>;
    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Failure>;
    /// Gives how many keys it found.
    async fn get(&mut self, key: Bytes) -> Result<u64, Failure>;
    /// Gives how many keys it found.
    async fn page(&mut self) -> Result<u64, Failure>;
    /// Waits until each watcher has been told of one change.
    async fn told(&mut self) -> Result<(), Failure>;
}

/// The whole of a run between start and stop.
pub async fn run(subject: &mut impl Subject, operation: Option<Operation>) -> Result<(), Failure> {
    let value = Random::new(1).value(VALUE_BYTES);
    // As many puts as a transaction may have.
    for first in (0..PAGE).step_by(100) {
        subject.fill((first..first + 100).map(key).collect(), value.clone()).await?;
    }
    for operation in Operation::ALL {
        perform(subject, operation, WARM_UP, &value).await?;
    }
    if let Some(operation) = operation {
        perform(subject, operation, operation.count(), &value).await?;
    }
    Ok(())
}

async fn perform(
    subject: &mut impl Subject,
    operation: Operation,
    count: u64,
    value: &Bytes,
) -> Result<(), Failure> {
    for number in 0..count {
        // A stride that is prime to the number of keys: neighbours in time are not neighbours in the index.
        let key = key(number * 7 % PAGE);
        let (found, expected) = match operation {
            Operation::Put => {
                subject.put(key, value.clone()).await?;
                continue;
            }
            Operation::WatchedPut => {
                subject.put(WATCHED.into(), value.clone()).await?;
                subject.told().await?;
                continue;
            }
            Operation::Get => (subject.get(key).await?, 1),
            Operation::Page => (subject.page().await?, PAGE),
        };
        if found != expected {
            return Err(format!("a {} found {found} keys, not {expected}", operation.name()).into());
        }
    }
    Ok(())
}
