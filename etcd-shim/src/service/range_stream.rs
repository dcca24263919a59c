//! `RangeStream`: the answer of a range in chunks.
//!
//! All chunks come from one snapshot; header, `more` and `count` come with the last one, so that the chunks,
//! merged, are what `Range` would have answered. A chunk is made when the connection can take it; unless the range is
//! small, on a thread beside, as large ranges are.

use super::{Shared, extent};
use crate::convert::{range, status};
use crate::proto::etcdserverpb::range_request::SortTarget;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use kvstore::KeyRange;
use kvstore::command::{Projection, RangeResult, ReadAt};
use kvstore::store::{Page, PageLimits, Snapshot};
use prost::Message;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_stream::Stream;
use tonic::Status;

/// Keys in the first chunk, so that the first answer is quick (etcd's number).
const FIRST_CHUNK_KEYS: usize = 10;

/// The stream of chunks.
pub struct RangeStream {
    shared: Arc<Shared>,
    is_small: bool,
    state: State,
}

/// A chunk, and whether it is the last.
type Chunk = Result<(RangeResponse, bool), Status>;
type Step = Pin<Box<dyn Future<Output = Result<(Box<Walk>, Chunk), Status>> + Send>>;

enum State {
    /// Until the connection can take the next chunk.
    Resting(Box<Walk>),
    /// The next chunk is being made.
    Working(Step),
    Ended,
}

struct Walk {
    snapshot: Snapshot,
    at: ReadAt,
    range: KeyRange,
    shape: range::Shape,
    projection: Projection,
    header: Option<ResponseHeader>,
    /// Keys in the range at that revision.
    count: u64,
    /// Keys that may still be sent.
    left: u64,
    /// Keys in the next chunk, and the size in bytes a chunk should come near to.
    chunk_keys: usize,
    target_bytes: usize,
    last_key: Option<Vec<u8>>,
    /// Sent so far.
    walked_bytes: usize,
}

impl RangeStream {
    /// Checks the request, waits until it may be read, and pins the revision.
    pub async fn open(mut request: RangeRequest, shared: &Arc<Shared>) -> Result<Self, Status> {
        let custom_order = !range::has_default_order(&request);
        let filtered = range::has_filter(&request);
        let serializable = request.serializable;
        if !custom_order && SortTarget::try_from(request.sort_target).is_ok() {
            // "By something else, in no order" streams in key order: chunks could not be merged otherwise.
            request.sort_target = SortTarget::Key as i32;
        }
        let (query, shape) = range::query(request)?;
        if custom_order {
            return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
        }
        if filtered {
            return Err(Status::unimplemented("RangeStream does not support revision filters"));
        }
        if !serializable {
            shared.keyspace.read_barrier().await.map_err(status::of)?;
        }
        let is_small = extent::is_small(shared.keyspace.reader(), &query);
        let snapshot = shared.keyspace.reader().snapshot();
        let (counted, range) = (snapshot.clone(), query.range.clone());
        let count = move || counted.count(&range, query.at);
        let count = if is_small { count() } else { shared.large_reads.step(count).await? };
        let count = count.map_err(status::of)?;
        let header = shared.header(snapshot.revision());
        let limit = if query.limit == 0 { u64::MAX } else { query.limit };
        let walk = Walk {
            snapshot,
            at: query.at,
            range: query.range,
            shape,
            projection: query.projection,
            header,
            count,
            left: limit,
            chunk_keys: FIRST_CHUNK_KEYS,
            target_bytes: shared.settings.max_request_bytes,
            last_key: None,
            walked_bytes: 0,
        };
        Ok(Self { shared: Arc::clone(shared), is_small, state: State::Resting(Box::new(walk)) })
    }

    /// Starts to make the next chunk on a thread beside.
    fn step(&self, mut walk: Box<Walk>) -> Step {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let chunk = walk.chunk();
            (walk, chunk)
        };
        Box::pin(async move { shared.large_reads.step(work).await })
    }

    fn pass_on(&mut self, walk: Box<Walk>, chunk: Chunk) -> Result<RangeStreamResponse, Status> {
        let (chunk, last) = chunk?;
        if !last {
            self.state = State::Resting(walk);
        }
        Ok(RangeStreamResponse { range_response: Some(chunk) })
    }
}

impl Walk {
    /// The next chunk, and whether it is the last.
    fn chunk(&mut self) -> Chunk {
        if self.projection == Projection::CountOnly {
            return Ok((self.last(Vec::new(), false), true));
        }
        let limits = PageLimits {
            max_keys: self.chunk_keys.min(usize::try_from(self.left).unwrap_or(usize::MAX)),
            max_bytes: self.target_bytes,
            walked_bytes: self.walked_bytes,
        };
        let page = self
            .snapshot
            .page(&self.range, self.last_key.as_deref(), self.at, limits, self.projection)
            .map_err(status::of)?;
        self.left -= (page.kvs.len() as u64).min(self.left);
        self.walked_bytes += page.kvs.iter().map(|kv| kv.encoded().len()).sum::<usize>();
        if !page.more || self.left == 0 {
            return Ok((self.last(page.kvs, page.more), true));
        }
        self.last_key = page.kvs.last().map(|kv| kv.key().to_vec());
        let chunk = self.response(page);
        self.adjust(chunk.encoded_len());
        Ok((chunk, false))
    }

    fn response(&self, page: Page) -> RangeResponse {
        let result = RangeResult { kvs: page.kvs, more: false, count: 0 };
        range::response(result, self.shape, None)
    }

    fn last(&mut self, kvs: Vec<kvstore::KeyValue>, more: bool) -> RangeResponse {
        let result = RangeResult { kvs, more, count: self.count };
        range::response(result, self.shape, self.header.take())
    }

    /// Doubles or halves the chunk, unless it came within a factor of two of the target.
    fn adjust(&mut self, size_bytes: usize) {
        if size_bytes < self.target_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if size_bytes > self.target_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

impl Stream for RangeStream {
    type Item = Result<RangeStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Whatever fails below is the end.
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Resting(mut walk) if self.is_small => {
                    let chunk = walk.chunk();
                    return Poll::Ready(Some(self.pass_on(walk, chunk)));
                }
                State::Resting(walk) => self.state = State::Working(self.step(walk)),
                State::Working(mut step) => match step.as_mut().poll(context) {
                    Poll::Pending => {
                        self.state = State::Working(step);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((walk, chunk))) => return Poll::Ready(Some(self.pass_on(walk, chunk))),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                },
            }
        }
    }
}
