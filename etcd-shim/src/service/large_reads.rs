//! Reads that are too large for the thread that serves everybody.
//!
//! A list of a million keys takes a second to read and encode. It is read on a thread beside, at a lower priority,
//! a few at a time; its reply is encoded there, in pieces, and lies in memory until its reader has taken it. How
//! much lies there is bounded: the next list waits for room, takes it from a reader that has stopped reading, and is
//! refused with "too many requests" when there is none.

use super::beside::{Processor, Processors};
use super::extent::Extent;
use super::pieces::{PERMIT_BYTES, Pieces, Reply, Writer, instead};
use super::read_rest::ReadRest;
use super::room::Held;
use super::{Shared, read_transaction, wire};
use crate::convert::{range, status, transaction};
use crate::proto::etcdserverpb::RangeResponse;
use kvstore::Error;
use kvstore::command::{Projection, RangeQuery, ReadAt, Transaction};
use kvstore::store::{PageLimits, Snapshot};
use parking_lot::Mutex;
use prost::Message;
use std::cell::RefCell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

/// Large reads at work at a time; the others wait. Each has a thread, and may hold a whole response beside the
/// bound below.
pub const LARGE_READS_AT_ONCE: usize = 2;

/// Moderate reads at work at a time: they do not wait until larger ones have come to their ends.
pub const MODERATE_READS_AT_ONCE: usize = 2;

/// Hashes of a keyspace at work at a time; the others wait. One reads every record there is.
pub const HASHES_AT_ONCE: usize = 1;

/// Bytes of large responses that wait for their readers. One that is larger has to be the only one.
pub const RESPONSES_HELD_BYTES_MAX: usize = 512 << 20;

/// A response of more bytes is counted among them, also if it was made where the request arrived: a client may
/// have any number of streams whose responses it does not read.
pub const UNCOUNTED_RESPONSE_BYTES_MAX: usize = 64 << 10;

/// How long a large response waits for room before its request is refused with "too many requests".
pub const ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// A reader that has taken nothing of a large response for so long loses it, if others need the room.
pub const READER_PATIENCE: Duration = Duration::from_secs(5);

/// How often whoever waits for room looks for such readers.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The largest message that gRPC's clients take at all (etcd's number).
pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// Keys and bytes that are read before they are encoded: what is held twice.
const PAGE: PageLimits = PageLimits { max_keys: 300, max_bytes: 1 << 20, walked_bytes: 0 };

/// How often a read of the present begins again because compaction has overtaken it.
const ATTEMPTS_MAX: usize = 16;

/// The bounds of one server.
#[derive(Debug)]
pub struct LargeReads {
    at_once: Arc<Semaphore>,
    moderate_at_once: Arc<Semaphore>,
    /// Apart from the others, which would wait for a whole hash.
    hashes: Processors,
    processors: Processors,
    /// Small requests so far.
    others: Arc<AtomicU64>,
    room: Arc<Semaphore>,
    room_bytes: usize,
    room_patience: Duration,
    reader_patience: Duration,
    replies: Mutex<Vec<Weak<Reply>>>,
}

/// Tells the work whether somebody still waits for it, and lets the work of others through.
pub struct Wanted<'a> {
    caller: Weak<()>,
    processor: &'a Processor,
    others: &'a AtomicU64,
    rest: RefCell<ReadRest>,
}

impl Wanted<'_> {
    /// Due after each part of a millisecond or so.
    fn check(&self) -> Result<(), Status> {
        if self.caller.strong_count() == 0 {
            return Err(Status::cancelled("context canceled"));
        }
        let mut rest = self.rest.borrow_mut();
        let pause = rest.page_done(Instant::now(), self.others.load(Ordering::Relaxed));
        self.processor.pass_on(pause);
        rest.goes_on(Instant::now());
        Ok(())
    }
}

impl Default for LargeReads {
    fn default() -> Self {
        Self::new(RESPONSES_HELD_BYTES_MAX, ROOM_PATIENCE, READER_PATIENCE)
    }
}

impl LargeReads {
    fn new(room_bytes: usize, room_patience: Duration, reader_patience: Duration) -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(LARGE_READS_AT_ONCE)),
            moderate_at_once: Arc::new(Semaphore::new(MODERATE_READS_AT_ONCE)),
            hashes: Processors::new(HASHES_AT_ONCE),
            processors: Processors::all_but_one(LARGE_READS_AT_ONCE),
            others: Arc::default(),
            room: Arc::new(Semaphore::new(room_bytes / PERMIT_BYTES)),
            room_bytes,
            room_patience,
            reader_patience,
            replies: Mutex::default(),
        }
    }

    /// A small request was served.
    pub fn other_served(&self) {
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads and encodes elsewhere; gives the reply once there is room for it.
    pub async fn read(
        &self,
        extent: Extent,
        work: impl FnOnce(&Wanted<'_>) -> Result<Pieces, Status> + Send + 'static,
    ) -> Result<Arc<Reply>, Status> {
        let alive = Arc::new(());
        let caller = Arc::downgrade(&alive);
        let others = Arc::clone(&self.others);
        let work = move |processor: &Processor| {
            let rest = ReadRest::new(Instant::now(), others.load(Ordering::Relaxed));
            work(&Wanted { caller, processor, others: &others, rest: rest.into() })
        };
        let (pieces, _turn) = self.beside(extent, work).await?;
        self.hold(pieces?).await
    }

    /// Gives the reply once there is room for it.
    pub async fn hold(&self, pieces: Pieces) -> Result<Arc<Reply>, Status> {
        let permit = self.room_for(pieces.bytes()).await?;
        Ok(self.remember(Reply::new(pieces, Held::of(permit))))
    }

    /// Gives the reply of what has happened already: it waits for nothing, and whoever comes next waits until there is room
    /// for it as well. What was `reserved` for it is part of its room.
    pub fn hold_at_once(&self, pieces: Pieces, reserved: Option<OwnedSemaphorePermit>) -> Arc<Reply> {
        let held = Held::at_once(&self.room, reserved, self.permits(pieces.bytes()));
        self.remember(Reply::new(pieces, held))
    }

    /// So that whoever needs the room can look whether it is being read.
    fn remember(&self, reply: Arc<Reply>) -> Arc<Reply> {
        let mut replies = self.replies.lock();
        replies.retain(|reply| reply.strong_count() > 0);
        replies.push(Arc::downgrade(&reply));
        reply
    }

    #[cfg(test)]
    pub fn room_bytes_free(&self) -> usize {
        self.room.available_permits() * PERMIT_BYTES
    }

    fn permits(&self, bytes: usize) -> usize {
        (bytes / PERMIT_BYTES).min(self.room_bytes / PERMIT_BYTES)
    }

    /// Encodes elsewhere what was made here.
    pub async fn encode(
        &self,
        work: impl FnOnce() -> Result<Pieces, Status> + Send + 'static,
    ) -> Result<Pieces, Status> {
        self.processors.run(|_| work()).await?
    }

    /// Does a step of a longer read elsewhere, in its turn among the others.
    pub async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.beside(Extent::Moderate, |_| work()).await.map(|(result, _)| result)
    }

    /// Hashes elsewhere.
    pub async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.hashes.run(|_| work()).await
    }

    /// Runs `work` on a thread beside, in its turn. The turn lasts until the permit is dropped, and as long as the work
    /// runs in any case, also when nobody waits any more.
    async fn beside<T: Send + 'static>(
        &self,
        extent: Extent,
        work: impl FnOnce(&Processor) -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Status> {
        let line = match extent {
            Extent::Moderate => &self.moderate_at_once,
            Extent::Any => &self.at_once,
        };
        let turn = line.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.processors.run(move |processor| (work(processor), turn)).await
    }

    /// Waits for room of so many bytes.
    pub async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Status> {
        let permits = self.permits(bytes);
        if let Ok(permit) = self.room.clone().try_acquire_many_owned(permits as u32) {
            return Ok(permit);
        }
        let mut room = pin!(self.room.clone().acquire_many_owned(permits as u32));
        let mut patience = pin!(tokio::time::sleep(self.room_patience));
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                biased;
                permit = room.as_mut() => return Ok(permit.expect("the semaphore is never closed")),
                () = patience.as_mut() => return Err(status::TOO_MANY_REQUESTS.into()),
                _ = look.tick() => self.make_room(permits),
            }
        }
    }

    /// Takes back what is not read, as far as it is needed.
    fn make_room(&self, permits: usize) {
        let mut replies = self.replies.lock().clone().into_iter().filter_map(|reply| reply.upgrade());
        while self.room.available_permits() < permits
            && let Some(reply) = replies.next()
        {
            if reply.give_up_if_stalled(self.reader_patience) {
                tracing::warn!(
                    "a large response was given up: its reader has stopped, and others need the room"
                );
            }
        }
    }
}

impl Shared {
    /// A response whose message is made on a thread beside.
    pub(super) async fn read_beside<T: Default>(
        &self,
        extent: Extent,
        work: impl FnOnce(&Wanted<'_>) -> Result<Pieces, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.large_reads.read(extent, work).await.map(instead)
    }

    /// The response of a read that was made here. Not for writes: when there is no room for their response, they have
    /// happened all the same.
    pub(super) async fn answer<T: Message + Default>(&self, message: T) -> Result<Response<T>, Status> {
        self.large_reads.other_served();
        if message.encoded_len() <= UNCOUNTED_RESPONSE_BYTES_MAX {
            return Ok(Response::new(message));
        }
        let mut writer = Writer::default();
        writer.message(&message)?;
        // What it was made from must not wait beside it.
        drop(message);
        self.large_reads.hold(writer.finish()).await.map(instead)
    }
}

/// The response of a range, in pieces.
pub(super) fn range(
    shared: &Shared,
    query: &RangeQuery,
    shape: range::Shape,
    wanted: &Wanted<'_>,
) -> Result<Pieces, Status> {
    let reader = shared.keyspace.reader();
    let in_pages = query.sort.is_none()
        && query.filter.is_none()
        && query.projection != Projection::CountOnly
        && shape.sort_late.is_none();
    let attempts = if in_pages { ATTEMPTS_MAX } else { 0 };
    for _ in 0..attempts {
        match pages(shared, &reader.snapshot(), query, shape, wanted) {
            Err(Fault::Store(Error::Compacted { .. })) if query.at == ReadAt::Latest => {}
            result => return Ok(result?),
        }
    }
    let (result, revision) = reader.range(query).map_err(status::of)?;
    wanted.check()?;
    let mut writer = Writer::default();
    wire::range(range::response(result, shape, shared.header(revision)), &mut writer)?;
    Ok(writer.finish())
}

/// Why a read failed.
pub(super) enum Fault {
    Store(Error),
    Status(Status),
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        match fault {
            Fault::Store(error) => status::of(error),
            Fault::Status(status) => status,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Store(error)
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Fault::Status(status)
    }
}

/// In key order and page by page: beside the response only a page is held.
fn pages(
    shared: &Shared,
    snapshot: &Snapshot,
    query: &RangeQuery,
    shape: range::Shape,
    wanted: &Wanted<'_>,
) -> Result<Pieces, Fault> {
    let mut writer = Writer::default();
    let header = shared.header(snapshot.revision());
    writer.message(&RangeResponse { header, ..Default::default() })?;
    let limit =
        if query.limit == 0 { usize::MAX } else { usize::try_from(query.limit).unwrap_or(usize::MAX) };
    let mut last: Option<Vec<u8>> = None;
    let (mut found, mut walked_bytes) = (0, 0);
    let more = loop {
        wanted.check()?;
        let limits = PageLimits { max_keys: PAGE.max_keys.min(limit - found), walked_bytes, ..PAGE };
        let page = snapshot.page(&query.range, last.as_deref(), query.at, limits, query.projection)?;
        found += page.kvs.len();
        last = page.kvs.last().map(|kv| kv.key().to_vec());
        for kv in page.kvs {
            walked_bytes += kv.encoded().len();
            writer.field(wire::RANGE_KVS_TAG, range::shaped(kv, shape).encoded())?;
        }
        if !page.more || found >= limit {
            break page.more;
        }
    };
    let count = if more { snapshot.count(&query.range, query.at)? } else { found as u64 };
    writer.message(&RangeResponse { more, count: count as i64, ..Default::default() })?;
    Ok(writer.finish())
}

/// The response of a transaction of ranges, in pieces.
pub(super) fn transaction(
    shared: &Shared,
    transaction: &Transaction,
    shapes: transaction::Shapes,
    wanted: &Wanted<'_>,
) -> Result<Pieces, Status> {
    wanted.check()?;
    let outcome = read_transaction::execute(transaction, shared.keyspace.reader())?;
    let header = shared.header(outcome.revision);
    let response = transaction::response(outcome, shapes, header);
    let mut writer = Writer::default();
    wire::transaction(response, &mut writer)?;
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NEVER: Duration = Duration::from_secs(600);

    fn pieces(bytes: usize) -> Pieces {
        let mut writer = Writer::default();
        writer.field(1, &vec![7; bytes]).unwrap();
        writer.finish()
    }

    async fn read(reads: &LargeReads, bytes: usize) -> Result<Arc<Reply>, Status> {
        reads.read(Extent::Any, move |_| Ok(pieces(bytes))).await
    }

    #[tokio::test]
    async fn replies_wait_for_room_and_are_refused_in_the_end() {
        let reads = LargeReads::new(1 << 20, Duration::from_millis(300), NEVER);
        let first = read(&reads, 900 << 10).await.unwrap();
        let refused = read(&reads, 900 << 10).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.message(), "etcdserver: too many requests");
        assert!(read(&reads, 100 << 10).await.is_ok(), "what fits is sent");
        drop(first);
        let reads = LargeReads::new(1 << 20, NEVER, NEVER);
        let first = read(&reads, 900 << 10).await.unwrap();
        let waiting = read(&reads, 900 << 10);
        let leaving = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(first);
        };
        assert!(tokio::join!(waiting, leaving).0.is_ok());
        assert!(read(&reads, 5 << 20).await.is_ok(), "one that is larger than all of it, alone");
    }

    #[tokio::test]
    async fn what_has_happened_waits_for_no_room_and_reads_wait_for_its_end() {
        let reads = LargeReads::new(1 << 20, Duration::from_millis(300), NEVER);
        let first = read(&reads, 900 << 10).await.unwrap();
        let write = reads.hold_at_once(pieces(900 << 10), None);
        assert!(read(&reads, 100 << 10).await.is_err(), "there is no room for it");
        drop(first);
        assert!(read(&reads, 100 << 10).await.is_ok());
        assert!(read(&reads, 200 << 10).await.is_err());
        drop(write);
        assert!(read(&reads, 1 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn a_write_whose_reader_has_stopped_makes_room() {
        let reads = LargeReads::new(1 << 20, NEVER, Duration::from_millis(50));
        let _first = read(&reads, 900 << 10).await.unwrap();
        let _write = reads.hold_at_once(pieces(5 << 20), None);
        assert!(read(&reads, 900 << 10).await.is_ok());
    }

    #[tokio::test]
    async fn a_reader_that_has_stopped_makes_room() {
        let reads = LargeReads::new(1 << 20, NEVER, Duration::from_millis(50));
        let stalled = read(&reads, 900 << 10).await.unwrap();
        assert!(read(&reads, 900 << 10).await.is_ok());
        assert!(!stalled.give_up_if_stalled(Duration::ZERO), "it has lost its memory already");
    }

    #[tokio::test]
    async fn few_run_at_a_time_and_nobody_reads_for_who_has_left() {
        let reads = Arc::new(LargeReads::default());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (running, most) = (running.clone(), most.clone());
            move |_: &Wanted<'_>| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(pieces(10))
            }
        };
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (reads, work) = (reads.clone(), work());
            all.spawn(async move { reads.read(Extent::Any, work).await.map(|_| ()) });
        }
        assert!(all.join_all().await.into_iter().all(|read| read.is_ok()));
        let processors = std::thread::available_parallelism().unwrap().get();
        assert_eq!(most.load(Ordering::SeqCst), (processors - 1).clamp(1, LARGE_READS_AT_ONCE));

        let (tell, told) = std::sync::mpsc::channel();
        let left = reads.read(Extent::Any, move |wanted| {
            while wanted.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = tell.send(());
            Ok(pieces(10))
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), left).await.is_err());
        tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(10)).unwrap())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_moderate_read_passes_while_larger_ones_go_on() {
        let reads = Arc::new(LargeReads::default());
        let done = Arc::new(AtomicUsize::new(0));
        let mut larger = tokio::task::JoinSet::new();
        for _ in 0..LARGE_READS_AT_ONCE {
            let (reads, done) = (reads.clone(), done.clone());
            let work = move |wanted: &Wanted<'_>| {
                while done.load(Ordering::SeqCst) == 0 {
                    wanted.check()?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(pieces(10))
            };
            larger.spawn(async move { reads.read(Extent::Any, work).await.map(|_| ()) });
        }
        let both_have_places = async {
            while reads.at_once.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            reads.read(Extent::Moderate, |_| Ok(pieces(10))).await
        };
        let read = tokio::time::timeout(Duration::from_secs(10), both_have_places).await;
        done.store(1, Ordering::SeqCst);
        assert!(read.expect("it does not wait for their ends").is_ok());
        assert!(larger.join_all().await.into_iter().all(|read| read.is_ok()));
    }
}
