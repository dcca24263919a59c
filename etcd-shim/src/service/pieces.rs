//! The message of a unary reply, encoded beforehand and sent piece by piece.
//!
//! tonic encodes a message in one go on the thread that serves everybody: hundred megabytes of it stop all others
//! for a tenth of a second. This one was encoded elsewhere, and gives its memory back while it is sent.

use super::large_reads::RESPONSE_BYTES_MAX;
use super::room::Held;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::Status;

/// Bytes in one piece: one frame of HTTP/2 as our settings have it. A larger record makes a piece of its own.
pub const PIECE_BYTES: usize = 64 << 10;

/// What the bound on memory is counted in.
pub const PERMIT_BYTES: usize = 1 << 10;

/// A message on its way into pieces.
#[derive(Default)]
pub struct Writer {
    pieces: VecDeque<Bytes>,
    current: BytesMut,
    /// Of the pieces that are full.
    bytes: usize,
}

/// A response that no client would take, in grpc-go's words.
pub fn response_too_large(size_bytes: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: trying to send message larger than max ({size_bytes} vs. {RESPONSE_BYTES_MAX})"
    ))
}

/// The pieces of a whole message with its gRPC prefix.
pub struct Pieces(VecDeque<Bytes>, usize);

impl Writer {
    /// Appends the fields of a message.
    pub fn message(&mut self, message: &impl Message) -> Result<(), Status> {
        let room = message.encoded_len();
        self.reserve(room)?;
        message.encode_raw(&mut self.current);
        Ok(())
    }

    /// Appends a field that is a message, whose bytes are there already.
    pub fn field(&mut self, tag: u32, encoded: &[u8]) -> Result<(), Status> {
        self.reserve(encoded.len() + 16)?;
        self.begin(tag, encoded.len())?;
        self.current.put_slice(encoded);
        Ok(())
    }

    /// Begins a field that is a message of so many bytes: they are to be appended next.
    pub fn begin(&mut self, tag: u32, bytes: usize) -> Result<(), Status> {
        self.reserve(16)?;
        prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut self.current);
        prost::encoding::encode_varint(bytes as u64, &mut self.current);
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Status> {
        let size_bytes = self.bytes + self.current.len() + bytes;
        if size_bytes > RESPONSE_BYTES_MAX {
            return Err(response_too_large(size_bytes));
        }
        if self.current.len() + bytes > PIECE_BYTES {
            self.cut();
        }
        if self.current.capacity() == 0 {
            self.current = BytesMut::with_capacity(bytes.max(PIECE_BYTES));
        }
        Ok(())
    }

    fn cut(&mut self) {
        if !self.current.is_empty() {
            self.bytes += self.current.len();
            self.pieces.push_back(std::mem::take(&mut self.current).freeze());
        }
    }

    /// The pieces of the whole.
    pub fn finish(mut self) -> Pieces {
        self.cut();
        let mut prefix = BytesMut::with_capacity(5);
        prefix.put_u8(0);
        prefix.put_u32(u32::try_from(self.bytes).expect("a message was refused above 2 GiB"));
        self.pieces.push_front(prefix.freeze());
        Pieces(self.pieces, self.bytes)
    }
}

impl Pieces {
    /// How much memory they take.
    pub fn bytes(&self) -> usize {
        self.1
    }

    /// The message without its prefix.
    #[cfg(test)]
    pub fn message(&self) -> Vec<u8> {
        self.0.iter().skip(1).flatten().copied().collect()
    }
}

/// A reply that is being sent.
pub struct Reply(Mutex<State>);

struct State {
    pieces: VecDeque<Bytes>,
    held: Held,
    taken_at: Instant,
    is_given_up: bool,
}

impl Reply {
    pub fn new(pieces: Pieces, held: Held) -> Arc<Reply> {
        let Pieces(pieces, _) = pieces;
        Arc::new(Reply(Mutex::new(State { pieces, held, taken_at: Instant::now(), is_given_up: false })))
    }

    /// Takes the memory back if its reader has taken nothing for so long. Says whether it had any.
    pub fn give_up_if_stalled(&self, patience: Duration) -> bool {
        let mut state = self.0.lock();
        if state.taken_at.elapsed() < patience || state.held.is_nothing() {
            return false;
        }
        state.is_given_up = true;
        state.pieces.clear();
        state.held.give_back(usize::MAX);
        true
    }

    fn next(&self) -> Result<Option<Bytes>, Status> {
        let mut state = self.0.lock();
        if state.is_given_up {
            return Err(Status::resource_exhausted("etcdserver: the response was not read for too long"));
        }
        let Some(piece) = state.pieces.pop_front() else { return Ok(None) };
        state.taken_at = Instant::now();
        state.held.give_back(piece.len() / PERMIT_BYTES);
        Ok(Some(piece))
    }
}

/// Hangs on a response whose message is empty, for [`ReplyBody`] to take its place.
#[derive(Clone)]
pub struct Instead(pub Arc<Reply>);

/// An empty response for `reply` to take the place of.
pub fn instead<T: Default>(reply: Arc<Reply>) -> tonic::Response<T> {
    let mut response = tonic::Response::new(T::default());
    response.extensions_mut().insert(Instead(reply));
    response
}

/// The body that sends a reply.
pub struct ReplyBody {
    reply: Option<Arc<Reply>>,
}

impl ReplyBody {
    pub fn new(Instead(reply): Instead) -> Self {
        Self { reply: Some(reply) }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(reply) = &self.reply else { return Poll::Ready(None) };
        let status = match reply.next() {
            Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        self.reply = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::EncodedKeyValue;
    use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use http_body_util::BodyExt;
    use kvstore::{KeyValue, LeaseId, Revision};
    use tokio::sync::Semaphore;

    fn record(n: usize, value_bytes: usize) -> KeyValue {
        let key = format!("key/{n:06}");
        let value = vec![n as u8; value_bytes];
        KeyValue::new(key.as_bytes(), &value, Revision::new(2), Revision::new(3), 1, LeaseId::NONE)
    }

    fn response(records: &[KeyValue]) -> RangeResponse {
        RangeResponse {
            header: Some(ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 700, raft_term: 9 }),
            kvs: records.iter().cloned().map(EncodedKeyValue).collect(),
            more: true,
            count: records.len() as i64,
        }
    }

    fn pieces(records: &[KeyValue]) -> Pieces {
        let mut writer = Writer::default();
        let whole = response(&[]);
        writer.message(&RangeResponse { header: whole.header, ..Default::default() }).unwrap();
        for record in records {
            writer.field(2, record.encoded()).unwrap();
        }
        let count = records.len() as i64;
        writer.message(&RangeResponse { more: true, count, ..Default::default() }).unwrap();
        writer.finish()
    }

    #[tokio::test]
    async fn the_pieces_are_the_message_and_give_their_memory_back() {
        let sizes = (0..2_000).map(|n| n % 300).chain([PIECE_BYTES * 3, 0, 5, PIECE_BYTES]);
        let records: Vec<KeyValue> = sizes.enumerate().map(|(n, bytes)| record(n, bytes)).collect();
        let pieces = pieces(&records);
        let (count, bytes) = (pieces.0.len(), pieces.bytes());
        assert!((8..20).contains(&count), "{count} pieces of {bytes} bytes");
        let budget = Arc::new(Semaphore::new(10_000));
        let permit = budget.clone().acquire_many_owned((bytes / PERMIT_BYTES) as u32).await.unwrap();
        let mut body = ReplyBody::new(Instead(Reply::new(pieces, Held::of(permit))));
        let mut sent = Vec::new();
        let mut last = budget.available_permits();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => sent.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            assert!(budget.available_permits() >= last);
            last = budget.available_permits();
        }
        let expected = response(&records).encode_to_vec();
        assert_eq!(sent[..5], [&[0][..], &(expected.len() as u32).to_be_bytes()].concat());
        assert!(sent[5..] == expected);
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
        assert!(body.is_end_stream() && budget.available_permits() == 10_000);
    }

    #[tokio::test]
    async fn a_reply_that_nobody_reads_can_be_given_up() {
        let budget = Arc::new(Semaphore::new(1_000));
        let permit = budget.clone().acquire_many_owned(900).await.unwrap();
        let reply = Reply::new(pieces(&[record(1, 500_000), record(2, 400_000)]), Held::of(permit));
        let mut body = ReplyBody::new(Instead(reply.clone()));
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(!reply.give_up_if_stalled(Duration::from_secs(60)));
        assert!(reply.give_up_if_stalled(Duration::ZERO));
        assert_eq!(budget.available_permits(), 1_000);
        assert!(!reply.give_up_if_stalled(Duration::ZERO), "there is nothing left to take");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "8");
        assert!(body.frame().await.is_none());
    }
}
