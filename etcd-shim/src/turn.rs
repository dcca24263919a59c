//! What a connection may do in one turn.
//!
//! A turn is one poll of its task; [`crate::listener`] says why there are turns, and who has the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

/// Bytes that a connection reads in a turn: about a hundred small requests, or two thirds of a millisecond until they are
/// accepted.
pub const READ_SLICE_BYTES: usize = 16 << 10;

/// The same while the connection has [`MANY_REQUESTS`]: thirty heads of requests, or three small requests.
pub const CROWDED_READ_SLICE_BYTES: usize = 512;

/// Requests of a connection that wait for their answer, from which on it is read in smaller slices: more than an apiserver
/// usually has. Below it whole slices are read, so that a request that was given up at once is seen to be before it is
/// answered.
pub const MANY_REQUESTS: usize = 128;

/// Requests of a connection that are worked on in a turn: a tenth of a millisecond.
pub const REQUESTS_SLICE: usize = 16;

/// Bytes that a connection writes in a turn: what a system needs a tenth of a millisecond for, or two if client and
/// server share a machine. A page of 500 small objects passes at once.
pub const WRITE_SLICE_BYTES: usize = 256 << 10;

/// Deliveries to watches that a connection makes in a turn: two tenths of a millisecond. One event may be due to ten thousand
/// watches of a stream, each with a response of its own.
pub const DELIVERIES_SLICE: usize = 128;

/// What a connection may still do in this turn. Hyper asks for more after each request that it accepts, so that pauses
/// which only one call of `poll_read` sees would bound nothing.
#[derive(Clone, Default)]
pub struct Turn(Arc<Left>);

#[derive(Default)]
struct Left {
    bytes_to_read: AtomicUsize,
    bytes_to_write: AtomicUsize,
    requests: AtomicUsize,
    deliveries: AtomicUsize,
    /// There was more to do.
    is_used_up: AtomicBool,
    /// Requests whose answers have not begun: not of this turn, of the connection.
    unanswered: AtomicUsize,
}

impl Turn {
    pub fn begin(&self) {
        let is_crowded = self.0.unanswered.load(Ordering::Relaxed) >= MANY_REQUESTS;
        let to_read = if is_crowded { CROWDED_READ_SLICE_BYTES } else { READ_SLICE_BYTES };
        self.0.bytes_to_read.store(to_read, Ordering::Relaxed);
        self.0.bytes_to_write.store(WRITE_SLICE_BYTES, Ordering::Relaxed);
        self.0.requests.store(REQUESTS_SLICE, Ordering::Relaxed);
        self.0.deliveries.store(DELIVERIES_SLICE, Ordering::Relaxed);
        self.0.is_used_up.store(false, Ordering::Relaxed);
    }

    /// Whether there is more to do than a turn allows.
    pub fn is_used_up(&self) -> bool {
        self.0.is_used_up.load(Ordering::Relaxed)
    }

    /// A request was accepted.
    pub fn accepted(&self) -> Unanswered {
        self.0.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(self.0.clone())
    }

    /// Whether one more request may be worked on.
    pub fn may_work(&self) -> bool {
        self.left(&self.0.requests).is_ready()
    }

    /// A request was worked on; whether it was the last one of the turn.
    pub fn worked(&self) -> bool {
        let left = self.0.requests.load(Ordering::Relaxed).saturating_sub(1);
        self.0.requests.store(left, Ordering::Relaxed);
        left == 0
    }

    /// Whether one more delivery may be made. If not, the stream is polled in the next turn without being woken.
    pub fn may_deliver(&self) -> bool {
        self.left(&self.0.deliveries).is_ready()
    }

    /// Whether all were made that may be.
    pub fn has_delivered(&self) -> bool {
        self.0.deliveries.load(Ordering::Relaxed) == 0
    }

    /// A delivery was made.
    pub fn delivered(&self) {
        let left = self.0.deliveries.load(Ordering::Relaxed).saturating_sub(1);
        self.0.deliveries.store(left, Ordering::Relaxed);
    }

    /// Something has more to do, and has seen to it that it is woken: in the next turn.
    pub fn use_up(&self) {
        self.0.is_used_up.store(true, Ordering::Relaxed);
    }

    /// How many bytes may be read; pending if none.
    pub fn left_to_read(&self) -> Poll<usize> {
        self.left(&self.0.bytes_to_read)
    }

    /// So many of `left` bytes were read.
    pub fn read(&self, left: usize, count: usize) {
        self.0.bytes_to_read.store(left - count, Ordering::Relaxed);
    }

    /// How many bytes may be written; pending if none.
    pub fn left_to_write(&self) -> Poll<usize> {
        self.left(&self.0.bytes_to_write)
    }

    /// The one write that passes the slice is not cut: h2 gives a frame or two at a time.
    pub fn wrote(&self, left: usize, written: &io::Result<usize>) {
        let count = *written.as_ref().unwrap_or(&0);
        self.0.bytes_to_write.store(left.saturating_sub(count), Ordering::Relaxed);
    }

    /// What is left of one kind. With nothing left the caller waits for the next turn; the connection need not be woken for
    /// it.
    fn left(&self, counter: &AtomicUsize) -> Poll<usize> {
        match counter.load(Ordering::Relaxed) {
            0 => {
                self.use_up();
                Poll::Pending
            }
            left => Poll::Ready(left),
        }
    }
}

/// A request whose answer has not begun.
pub struct Unanswered(Arc<Left>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}
