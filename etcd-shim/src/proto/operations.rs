//! How many operations a transaction holds, counted before it is decoded.
//!
//! An operation may take two bytes on the wire and takes a hundred and fifty as a message: two megabytes of them would
//! become a hundred and fifty and stop everybody for a while, only to be refused.

/// Operations and compares of a transaction, nested ones included, that are decoded at all. What a server takes is
/// set by `--max-txn-ops` (128) and counts by list; beyond this a larger setting has no effect.
pub const OPERATIONS_DECODED_MAX: usize = 64 << 10;

/// Levels that are looked into; decoding has a bound of its own above it.
const DEPTH_MAX: usize = 100;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;

/// Tag of the transaction in `RequestOp`.
const REQUEST_TXN: u64 = 4;

/// Whether an encoded `TxnRequest` holds no more than that. What cannot be read is left to the decoder.
pub fn are_few(transaction: &[u8]) -> bool {
    are_at_most(OPERATIONS_DECODED_MAX, transaction)
}

/// The same of another bound.
pub fn are_at_most(bound: usize, transaction: &[u8]) -> bool {
    let mut left = bound;
    count(transaction, &mut left, DEPTH_MAX).is_some()
}

/// Takes the operations of a transaction off `left`; `None` when it does not suffice.
fn count(transaction: &[u8], left: &mut usize, depth: usize) -> Option<()> {
    let (compare, success, failure) = (1, 2, 3);
    let mut fields = Fields(transaction);
    while let Some((tag, value)) = fields.next() {
        if ![compare, success, failure].contains(&tag) {
            continue;
        }
        *left = left.checked_sub(1)?;
        if tag == compare || depth == 0 {
            continue;
        }
        let mut operation = Fields(value);
        while let Some((tag, value)) = operation.next() {
            // It may be there twice: then the lists of both are joined.
            if tag == REQUEST_TXN {
                count(value, left, depth - 1)?;
            }
        }
    }
    Some(())
}

/// The fields of a message that have a length, until the first thing that is no field. Groups are skipped with all that is
/// in them, as the decoder does: none of ours has any, and whoever sends one must not hide what follows it.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        // Whether the ends name what began is the decoder's business.
        let mut groups_open = 0usize;
        loop {
            let key = self.varint()?;
            let skipped = match key & 7 {
                VARINT => {
                    self.varint()?;
                    0
                }
                FIXED_64 => 8,
                FIXED_32 => 4,
                LENGTH_DELIMITED => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    let (value, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    if groups_open == 0 {
                        return Some((key >> 3, value));
                    }
                    0
                }
                GROUP_START => {
                    groups_open += 1;
                    0
                }
                GROUP_END => {
                    groups_open = groups_open.checked_sub(1)?;
                    0
                }
                _ => return None,
            };
            self.0 = self.0.get(skipped..)?;
        }
    }

    fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb as pb;
    use prost::Message;

    fn get() -> pb::RequestOp {
        let get = pb::RangeRequest { key: "k".into(), revision: 7, ..Default::default() };
        pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(get)) }
    }

    fn nested(inner: pb::TxnRequest) -> pb::RequestOp {
        pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(inner)) }
    }

    fn are_few_in(transaction: &pb::TxnRequest) -> bool {
        are_few(&transaction.encode_to_vec())
    }

    #[test]
    fn operations_are_counted_on_all_levels_and_in_all_lists() {
        let half = OPERATIONS_DECODED_MAX / 2;
        let success = vec![get(); half];
        let whole =
            pb::TxnRequest { success: success.clone(), failure: success.clone(), ..Default::default() };
        assert!(are_few_in(&whole));
        let compare = vec![pb::Compare::default()];
        assert!(!are_few_in(&pb::TxnRequest { compare, ..whole }));
        let inner = pb::TxnRequest { success: success.clone(), ..Default::default() };
        let outer = pb::TxnRequest { success, failure: vec![nested(inner)], ..Default::default() };
        assert!(!are_few_in(&outer));
        assert!(are_few_in(&pb::TxnRequest { failure: outer.failure, ..Default::default() }));
        let empty = vec![pb::RequestOp::default(); OPERATIONS_DECODED_MAX + 1];
        assert!(!are_few_in(&pb::TxnRequest { success: empty, ..Default::default() }));
    }

    #[test]
    fn what_cannot_be_read_is_the_decoders_business() {
        let whole = pb::TxnRequest { success: vec![get(); 3], ..Default::default() }.encode_to_vec();
        for length in 0..whole.len() {
            assert!(are_few(&whole[..length]));
        }
        assert!(are_few(&[0xff; 100]));
    }

    #[test]
    fn groups_hide_nothing() {
        let operations = pb::TxnRequest { success: vec![get(); 3], ..Default::default() }.encode_to_vec();
        // Field 15 as a group with nothing in it; with an operation in it, which is none; and with a group in it.
        for group in [&[0x7b, 0x7c][..], &[0x7b, 0x12, 0, 0x7c], &[0x7b, 0x73, 0x08, 1, 0x74, 0x7c]] {
            let transaction = [group, &operations].concat();
            assert_eq!(pb::TxnRequest::decode(&transaction[..]).unwrap().success.len(), 3);
            assert!(are_at_most(3, &transaction) && !are_at_most(2, &transaction), "{group:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = (0..5_000).fold(Vec::new(), |inner: Vec<u8>, _| {
            let wrap = |tag: u8, inner: Vec<u8>| {
                let mut out = vec![tag << 3 | 2];
                prost::encoding::encode_varint(inner.len() as u64, &mut out);
                out.extend(inner);
                out
            };
            wrap(2, wrap(4, inner))
        });
        assert!(are_few(&deep));
    }
}
