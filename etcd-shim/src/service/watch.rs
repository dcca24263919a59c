//! Watch.
//!
//! One stream is one session of the store's watch hub. The stream is a state machine that the connection polls
//! while it can send: it takes requests and deliveries in turn and makes responses of them. It queues nothing
//! but refusals: a slow client is the session's business, which is bounded.

use super::Shared;
use super::stream_end::StreamEnd;
use crate::convert::{status, watch};
use crate::proto::EncodedEvent;
use crate::proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion, watch_server::Watch,
};
use crate::turn::Turn;
use kvstore::Revision;
use kvstore::store::{CancelReason, Delivered, Delivery, Session, WatchRefused};
use prost::Message;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// The shortest time between progress notifications (etcd's floor).
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Refusals that wait for their turn; a client that causes more without reading is told nothing more until it
/// reads.
const REFUSALS_MAX: usize = 1024;

/// `etcdserverpb.Watch`.
pub struct WatchService {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<WatchStream>, Status> {
        let end = StreamEnd::of(request.metadata().as_ref(), &self.shared);
        let turn = request.extensions().get().cloned();
        Ok(Response::new(WatchStream {
            requests: Some(request.into_inner()),
            session: self.shared.keyspace.watch(),
            shared: Arc::clone(&self.shared),
            end,
            turn,
            progress: None,
            fragmented: HashSet::new(),
            fragments: VecDeque::new(),
            accepted: 0,
            announced: 0,
            refusals: VecDeque::new(),
            ended: false,
        }))
    }
}

/// The responses of one stream.
pub struct WatchStream {
    /// `None` once the client has sent its last request; its watches go on.
    requests: Option<Streaming<WatchRequest>>,
    session: Session,
    shared: Arc<Shared>,
    end: StreamEnd,
    /// The connection's; tests call without one.
    turn: Option<Turn>,
    /// The next tick of progress notifications, from the first watch on that wants them.
    progress: Option<Pin<Box<Sleep>>>,
    /// Watches whose large batches may be split.
    fragmented: HashSet<i64>,
    /// What is left of a batch that was split.
    fragments: VecDeque<WatchResponse>,
    /// Watches accepted, and those of them announced to the client. Clients match "created" responses to their
    /// requests by order, so a refusal waits for the announcements before it.
    accepted: u64,
    announced: u64,
    /// Refusals and the number of announcements each waits for.
    refusals: VecDeque<(u64, String)>,
    ended: bool,
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.turn.as_ref().is_some_and(|turn| !turn.may_deliver()) {
            return Poll::Pending;
        }
        let response = std::task::ready!(this.poll_response(context));
        this.turn.as_ref().inspect(|turn| turn.delivered());
        this.ended = response.is_err();
        Poll::Ready(Some(response))
    }
}

impl WatchStream {
    fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchResponse, Status>> {
        loop {
            if let Some(fragment) = self.fragments.pop_front() {
                return Poll::Ready(Ok(fragment));
            }
            if let Poll::Ready(end) = self.end.poll(context) {
                return Poll::Ready(Err(end));
            }
            self.poll_progress(context);
            let took_request = match self.poll_request(context) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => false,
            };
            if let Some(refusal) = self.next_refusal() {
                return Poll::Ready(Ok(refusal));
            }
            match self.session.poll_next(context) {
                Poll::Ready(delivery) => return Poll::Ready(self.response(delivery)),
                Poll::Pending if self.session.has_more() => {
                    self.turn.as_ref().inspect(|turn| turn.use_up());
                    return Poll::Pending;
                }
                Poll::Pending if took_request => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes at most one request. Ready with an error is the stream's end.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.refusals.len() >= REFUSALS_MAX {
            // The session has announcements to make first; it wakes us for them.
            return Poll::Pending;
        }
        let Some(requests) = &mut self.requests else { return Poll::Pending };
        match std::task::ready!(Pin::new(requests).poll_next(context)) {
            Some(Ok(request)) => {
                match request.request_union {
                    Some(RequestUnion::CreateRequest(create)) => self.create(create)?,
                    Some(RequestUnion::CancelRequest(cancel)) => {
                        self.session.cancel(cancel.watch_id);
                    }
                    Some(RequestUnion::ProgressRequest(_)) => self.session.request_progress(),
                    // A request of a newer protocol does not end the stream.
                    None => {}
                }
                Poll::Ready(Ok(()))
            }
            Some(Err(status)) => Poll::Ready(Err(status)),
            None => {
                self.requests = None;
                Poll::Pending
            }
        }
    }

    /// An error is the stream's end.
    fn create(&mut self, request: WatchCreateRequest) -> Result<(), Status> {
        let (wants_progress, wants_fragments) = (request.progress_notify, request.fragment);
        let created = match watch::options(request).map(|options| self.session.create(options)) {
            // A refusal of the watch would be final to clients; with the end of the stream they try again, elsewhere.
            Ok(Err(WatchRefused::Stopped)) => return Err(status::STOPPED.into()),
            Ok(created) => created.map_err(|refused| watch::refusal(&refused)),
            Err(reason) => Err(reason.to_owned()),
        };
        match created {
            Ok(id) => {
                self.accepted += 1;
                // The end of an earlier watch of this id may not be told yet.
                match wants_fragments {
                    true => self.fragmented.insert(id),
                    false => self.fragmented.remove(&id),
                };
                if wants_progress && self.progress.is_none() {
                    self.progress = Some(Box::pin(tokio::time::sleep(progress_interval(&self.shared))));
                }
            }
            Err(reason) => self.refusals.push_back((self.accepted, reason)),
        }
        Ok(())
    }

    fn next_refusal(&mut self) -> Option<WatchResponse> {
        if self.refusals.front()?.0 > self.announced {
            return None;
        }
        let (_, reason) = self.refusals.pop_front()?;
        Some(watch::refused(reason, self.shared.header_now()))
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) {
        let Some(tick) = &mut self.progress else { return };
        while tick.as_mut().poll(context).is_ready() {
            self.session.tick_progress();
            tick.as_mut().reset(Instant::now() + progress_interval(&self.shared));
        }
    }

    fn response(&mut self, delivery: Delivery) -> Result<WatchResponse, Status> {
        match delivery {
            Delivery::Created { id, revision } => {
                self.announced += 1;
                Ok(WatchResponse {
                    header: self.shared.header(revision),
                    watch_id: id,
                    created: true,
                    ..Default::default()
                })
            }
            Delivery::Events { id, events, revision } => self.events(id, &events, revision),
            Delivery::Progress { id, revision } => Ok(WatchResponse {
                header: self.shared.header(revision),
                watch_id: id.unwrap_or(watch::NO_WATCH),
                ..Default::default()
            }),
            Delivery::Canceled { id, reason } => {
                // By now the client may have given the id to another watch.
                if !self.session.has(id) {
                    self.fragmented.remove(&id);
                }
                let revision = match reason {
                    CancelReason::Requested | CancelReason::Unreadable => self.shared.keyspace.revision(),
                    CancelReason::Compacted { .. } => Revision::NONE,
                    CancelReason::Stopped => return Err(status::STOPPED.into()),
                    CancelReason::Damaged => return Err(status::damaged("the past cannot be read")),
                };
                Ok(watch::canceled(id, reason, self.shared.header(revision)))
            }
        }
    }

    fn events(&mut self, id: i64, events: &[Delivered], revision: Revision) -> Result<WatchResponse, Status> {
        let response = WatchResponse {
            header: self.shared.header(revision),
            watch_id: id,
            events: events.iter().map(|event| EncodedEvent(event.wire())).collect(),
            ..Default::default()
        };
        if !self.fragmented.contains(&id) {
            return Ok(response);
        }
        let mut fragments = split(response, self.shared.settings.max_message_bytes());
        let first = fragments.pop_front();
        self.fragments = fragments;
        first.ok_or_else(|| Status::internal("etcdserver: a watch response was split into nothing"))
    }
}

/// The interval and up to a tenth more, so that streams that began together do not stay together.
fn progress_interval(shared: &Shared) -> Duration {
    let interval = shared.settings.watch_progress_interval.max(PROGRESS_INTERVAL_MIN);
    let thousandths_of_a_tenth = RandomState::new().hash_one(0u8) % 1000;
    interval + interval.mul_f64(thousandths_of_a_tenth as f64 / 10_000.0)
}

/// Splits a response of `limit_bytes` or more into ones below; a single event is never split. All but the last
/// say that more follows.
pub fn split(response: WatchResponse, limit_bytes: usize) -> VecDeque<WatchResponse> {
    if response.encoded_len() < limit_bytes || response.events.len() < 2 {
        return VecDeque::from([response]);
    }
    let frame = WatchResponse { events: Vec::new(), fragment: true, ..response.clone() };
    let frame_bytes = frame.encoded_len();
    let mut out = VecDeque::new();
    let mut current = frame.clone();
    let mut current_bytes = frame_bytes;
    for event in response.events {
        let event_bytes = 1 + prost::length_delimiter_len(event.0.len()) + event.0.len();
        if !current.events.is_empty() && current_bytes + event_bytes >= limit_bytes {
            out.push_back(std::mem::replace(&mut current, frame.clone()));
            current_bytes = frame_bytes;
        }
        current_bytes += event_bytes;
        current.events.push(event);
    }
    current.fragment = false;
    out.push_back(current);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(sizes: &[usize]) -> WatchResponse {
        let events = sizes.iter().map(|size| EncodedEvent(vec![7; *size].into())).collect();
        WatchResponse { watch_id: 5, events, ..Default::default() }
    }

    fn shape(parts: &VecDeque<WatchResponse>) -> Vec<(usize, bool)> {
        parts.iter().map(|part| (part.events.len(), part.fragment)).collect()
    }

    #[test]
    fn a_large_batch_is_split_below_the_limit() {
        let parts = split(response(&[400, 400, 400, 400, 300]), 1000);
        assert_eq!(shape(&parts), [(2, true), (2, true), (1, false)]);
        assert!(parts.iter().all(|part| part.encoded_len() < 1000 && part.watch_id == 5));
        assert_eq!(shape(&split(response(&[400, 400]), 1000)), [(2, false)]);
    }

    #[test]
    fn one_event_is_never_split() {
        assert_eq!(shape(&split(response(&[5000]), 1000)), [(1, false)]);
        assert_eq!(shape(&split(response(&[5000, 1, 5000]), 1000)), [(1, true), (1, true), (1, false)]);
    }
}
