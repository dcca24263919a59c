//! The store alone. This runs in a process of its own, under callgrind.

use crate::Failure;
use crate::work::{self, Operation, PAGE, PAGED, Subject, WATCHED, WATCHERS};
use bytes::Bytes;
use holdfast_benches::commands::put;
use kvstore::command::{RangeQuery, Transaction};
use kvstore::store::{Config, Consistency, Delivery, Keyspace, Placement, Session, Store, WatchOptions};
use kvstore::{KeyRange, KeyspaceId};

struct Engine {
    keyspace: Keyspace,
    watchers: Vec<Session>,
}

/// Opens a store, works, stops it.
pub fn run(operation: Option<Operation>) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let config = Config { placement: Placement::Caller, ..Config::new(directory.path().join("data")) };
    let store = Store::open(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let core = tokio::spawn(store.take_core().ok_or("the core was taken before")?);
        let keyspace = store.keyspace(KeyspaceId::DEFAULT);
        let watchers: Vec<Session> = (0..WATCHERS).map(|_| keyspace.watch()).collect();
        for watcher in &watchers {
            watcher
                .create(WatchOptions::new(KeyRange::single(WATCHED)))
                .map_err(|error| format!("{error:?}"))?;
        }
        work::run(&mut Engine { keyspace, watchers }, operation).await?;
        store.stop().await;
        core.await?;
        Ok(())
    })
}

impl Engine {
    async fn range(&self, query: RangeQuery) -> Result<u64, Failure> {
        let reply = self.keyspace.range(query, Consistency::Linearizable).await?;
        Ok(std::hint::black_box(reply).result.kvs.len() as u64)
    }
}

impl Subject for Engine {
    async fn fill(&mut self, keys: Vec<Bytes>, value: Bytes) -> Result<(), Failure> {
        let success = keys.into_iter().map(|key| put(key, value.clone())).collect();
        self.keyspace.transact(Transaction { success, ..Default::default() }).await?;
        Ok(())
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Failure> {
        self.fill(vec![key], value).await
    }

    async fn get(&mut self, key: Bytes) -> Result<u64, Failure> {
        self.range(RangeQuery::new(KeyRange::single(key))).await
    }

    async fn page(&mut self) -> Result<u64, Failure> {
        self.range(RangeQuery { limit: PAGE, ..RangeQuery::new(KeyRange::prefix(PAGED)) }).await
    }

    async fn told(&mut self) -> Result<(), Failure> {
        for watcher in &self.watchers {
            while !matches!(watcher.next().await, Delivery::Events { .. }) {}
        }
        Ok(())
    }
}
