//! Writes that may answer much: transactions with ranges, and deletes of ranges that give back what they have deleted.
//!
//! A write that has happened must not be refused because there is no room for its response. So one that may have a large
//! response waits before it is proposed, as the response of a large read waits after it was read; its response is counted
//! in any case, and what it takes beyond the room is what others wait for (`room`).

use super::Shared;
use super::extent::{self, Answer};
use super::large_reads::UNCOUNTED_RESPONSE_BYTES_MAX;
use super::pieces::{Writer, instead};
use crate::convert::status;
use kvstore::CallerId;
use kvstore::command::{Transaction, TransactionOutcome};
use prost::Message;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

/// Writes with a large response at work at a time, until that is counted: so much may be held beside the bound.
pub const LARGE_WRITES_AT_ONCE: usize = 1;

/// Bytes of writes that wait for their turn or for room: half of what may be in flight. Each counts a little more than its
/// request.
pub const WAITING_WRITES_BYTES_MAX: usize = 64 << 20;

/// What the smallest of them takes.
const WAITING_WRITE_BYTES: usize = 4 << 10;

/// The bounds of one server.
#[derive(Debug)]
pub struct LargeWrites {
    turns: Arc<Semaphore>,
    waiting_bytes: Arc<Semaphore>,
}

impl Default for LargeWrites {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(LARGE_WRITES_AT_ONCE)),
            waiting_bytes: Arc::new(Semaphore::new(WAITING_WRITES_BYTES_MAX)),
        }
    }
}

/// What a write has for its response.
pub(super) enum Place {
    /// It needs none.
    Plain,
    /// Room for it, if it may be more than a little.
    Room(Option<OwnedSemaphorePermit>),
    /// The turn among the large ones, and some room.
    Turn(OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Shared {
    /// Writes on behalf of a connection, once there is room for what it may answer.
    pub(super) async fn transact(
        &self,
        caller: CallerId,
        transaction: Transaction,
        request_bytes: usize,
    ) -> Result<(TransactionOutcome, Place), Status> {
        self.large_reads.other_served();
        let place = match extent::answer(self.keyspace.reader(), &transaction) {
            Answer::Plain => Place::Plain,
            Answer::Bytes(bytes) if bytes <= UNCOUNTED_RESPONSE_BYTES_MAX => Place::Room(None),
            answer => self.place_for(answer, request_bytes).await?,
        };
        let outcome = self.keyspace.of_caller(caller).transact(transaction).await.map_err(status::of)?;
        Ok((outcome, place))
    }

    async fn place_for(&self, answer: Answer, request_bytes: usize) -> Result<Place, Status> {
        let waiting = self.large_writes.waiting_bytes.clone();
        let bytes = (request_bytes + WAITING_WRITE_BYTES).min(WAITING_WRITES_BYTES_MAX) as u32;
        let _waiting = waiting.try_acquire_many_owned(bytes).map_err(|_| status::TOO_MANY_REQUESTS)?;
        Ok(match answer {
            Answer::Plain => Place::Plain,
            Answer::Bytes(bytes) => Place::Room(Some(self.large_reads.room_for(bytes).await?)),
            Answer::Large => {
                let turn = self.large_writes.turns.clone().acquire_owned().await;
                let turn = turn.expect("the semaphore is never closed");
                // How much it will be is not known: only that others' have room.
                Place::Turn(turn, self.large_reads.room_for(UNCOUNTED_RESPONSE_BYTES_MAX).await?)
            }
        })
    }

    /// The response of a write, which has happened: it is never refused for want of room.
    pub(super) async fn answer_write<T: Message + Default + 'static>(
        &self,
        message: T,
        place: Place,
        write: fn(T, &mut Writer) -> Result<(), Status>,
    ) -> Result<Response<T>, Status> {
        let (turn, reserved) = match place {
            Place::Plain => return Ok(Response::new(message)),
            Place::Room(room) => (None, room),
            Place::Turn(turn, room) => (Some(turn), Some(room)),
        };
        if message.encoded_len() <= UNCOUNTED_RESPONSE_BYTES_MAX {
            return Ok(Response::new(message));
        }
        let encode = move || {
            let mut writer = Writer::default();
            write(message, &mut writer)?;
            Ok(writer.finish())
        };
        let pieces = if turn.is_some() { self.large_reads.encode(encode).await? } else { encode()? };
        Ok(instead(self.large_reads.hold_at_once(pieces, reserved)))
    }
}

#[cfg(test)]
impl LargeWrites {
    pub fn take_all_turns(&self) -> OwnedSemaphorePermit {
        self.turns.clone().try_acquire_many_owned(LARGE_WRITES_AT_ONCE as u32).unwrap()
    }

    pub fn take_waiting(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.waiting_bytes.clone().try_acquire_many_owned(bytes as u32).ok()
    }
}
