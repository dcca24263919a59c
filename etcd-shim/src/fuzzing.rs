//! The conversions of requests, and what else is done with them without a server, under names that other crates can reach.
//! For fuzzing alone.

pub use crate::convert::lease::time_to_live;
pub use crate::convert::range::{query, response as range_response};
pub use crate::convert::transaction::{read_only, response as transaction_response, transaction};
pub use crate::convert::watch::{
    canceled as watch_canceled, options as watch_options, refusal as watch_refusal, refused as watch_refused,
};
pub use crate::convert::write::{alone, delete, delete_response, put, put_response};
pub use crate::proto::operations::{are_at_most, are_few};
pub use crate::service::read_transaction::execute as read_transaction;
pub use crate::service::watch::split as watch_split;
