//! How messages get into and out of gRPC frames.
//!
//! tonic's own codec allocates 8 KiB for each direction of each call and lets the buffer grow while a message
//! is written. Most messages here are far smaller and the large ones know their size: this codec begins small
//! and reserves once.

use super::etcdserverpb::TxnRequest;
use super::operations;
use crate::convert::status;
use bytes::Buf;
use prost::Message;
use std::any::TypeId;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// First allocation for each direction of a call, in bytes: a put of a small value fits.
const FIRST_BUFFER_BYTES: usize = 512;
/// Ready messages of a stream are sent together up to this size, in bytes; beyond it a first one leaves before
/// the next is encoded. Twice HTTP/2's default frame.
const SEND_TOGETHER_BYTES: usize = 32 * 1024;

fn settings() -> BufferSettings {
    BufferSettings::new(FIRST_BUFFER_BYTES, SEND_TOGETHER_BYTES)
}

/// grpc-go's words for a request that is none; its library does not say what is wrong with it.
const UNREADABLE: &str = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data";

/// The codec of all services.
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

/// Encodes messages.
pub struct Writer<T>(PhantomData<T>);

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

/// Decodes messages.
pub struct Reader<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Decoder for Reader<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let is_transaction = TypeId::of::<T>() == TypeId::of::<TxnRequest>();
        if is_transaction && !operations::are_few(buf.chunk()) {
            return Err(status::TOO_MANY_OPERATIONS.into());
        }
        T::decode(buf).map(Some).map_err(|_| Status::internal(UNREADABLE))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
