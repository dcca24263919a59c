//! A client of one scenario: what it sends, request by request.

use crate::Failure;
use crate::fill::{NAMESPACE_KEYS, prepared_key};
use crate::scenario::{Kind, Scenario};
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, guarded_create, guarded_delete, guarded_put, prefix_end, put};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Keys that one client of `update` works on.
const UPDATE_KEYS: usize = 100;
/// Of the keys of the kube mix that are there at first: so many more can be created.
const KUBE_ROOM_SHARE: f64 = 0.25;
const LEASE_TTL_S: i64 = 600;
/// As good as none, like kube-apiserver's.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Where the keys of a scenario lie. What is prepared is never written by a client.
pub fn prefix(scenario: &Scenario) -> String {
    match scenario.kind {
        Kind::Kube => "/registry/kube/".into(),
        Kind::Update => "/registry/update/".into(),
        Kind::Slow => "/registry/slow/".into(),
        _ => format!("/registry/keys-{}/", scenario.keys),
    }
}

pub struct Client {
    scenario: Scenario,
    prefix: String,
    /// Of keys that are created: unique to run, number of clients, round and client, so that none is created twice.
    tag: String,
    value_bytes: usize,
    random: Random,
    sent: u64,
    kv: KvClient<Channel>,
    /// The revisions of this client's own keys; none: it is not there.
    revisions: Vec<Option<i64>>,
    walk: Walk,
    lease: Option<(
        i64,
        tokio::sync::mpsc::Sender<pb::LeaseKeepAliveRequest>,
        Streaming<pb::LeaseKeepAliveResponse>,
    )>,
}

/// A list, page by page.
#[derive(Default)]
struct Walk {
    /// Where the next page begins.
    next: Option<Bytes>,
    /// Pages behind the first one are read at its revision, as the apiserver's tokens say.
    revision: i64,
    keys: usize,
}

impl Client {
    pub async fn new(
        channel: Channel,
        scenario: Scenario,
        number: usize,
        round: usize,
        value_bytes: usize,
    ) -> Result<Self, Failure> {
        let run = std::process::id();
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let tag = match scenario.kind {
            Kind::Put | Kind::Create => format!("{run}-{}-{round}-{number}", scenario.clients),
            // The same keys in every round: a later round finds no more than an earlier one.
            _ => format!("{run}-{number}"),
        };
        let mut client = Self {
            scenario,
            prefix: prefix(&scenario),
            tag,
            value_bytes,
            random: Random::new((round * 10_000 + number) as u64 + 1),
            sent: 0,
            kv,
            revisions: Vec::new(),
            walk: Walk::default(),
            lease: None,
        };
        match scenario.kind {
            Kind::Update | Kind::Slow => client.own_keys(UPDATE_KEYS, 0).await?,
            Kind::Pause(_) => {
                client.prefix = "/registry/pauses/".into();
                client.own_keys(UPDATE_KEYS, 0).await?;
            }
            Kind::Kube => {
                let there = scenario.keys.div_ceil(scenario.clients);
                let room = (there as f64 * KUBE_ROOM_SHARE).ceil() as usize;
                client.own_keys(there, room).await?;
            }
            Kind::Lease => client.own_lease(channel).await?,
            _ => {}
        }
        Ok(client)
    }

    fn own_key(&self, slot: usize) -> Bytes {
        format!("{}{}/{slot:06}", self.namespace(slot), self.tag).into()
    }

    /// A namespace holds keys of several clients, as in a cluster.
    fn namespace(&self, slot: usize) -> String {
        format!("{}{:04}/", self.prefix, slot * self.scenario.clients / NAMESPACE_KEYS)
    }

    /// Creates them, or finds out where the round before has left them; behind them there is room for those that will be
    /// created during the round.
    async fn own_keys(&mut self, count: usize, room: usize) -> Result<(), Failure> {
        for slot in 0..count + room {
            let key = self.own_key(slot);
            let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
            let found = self.kv.range(get).await?.into_inner();
            // A server without a store finds everything.
            let there = found.kvs.first().map(|kv| kv.mod_revision);
            let revision = match there {
                Some(revision) => Some(revision),
                None if slot >= count => None,
                None => {
                    let value = self.random.value(self.value_bytes);
                    Some(revision(self.kv.txn(guarded_create(key, value)).await?.into_inner().header)?)
                }
            };
            self.revisions.push(revision);
        }
        Ok(())
    }

    async fn own_lease(&mut self, channel: Channel) -> Result<(), Failure> {
        let mut client = LeaseClient::new(channel);
        let granted =
            client.lease_grant(pb::LeaseGrantRequest { ttl: LEASE_TTL_S, id: 0 }).await?.into_inner();
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        requests.send(pb::LeaseKeepAliveRequest { id: granted.id }).await?;
        let mut answers = client.lease_keep_alive(ReceiverStream::new(receiver)).await?.into_inner();
        answers.message().await?;
        self.lease = Some((granted.id, requests, answers));
        Ok(())
    }

    /// Sends one request and waits for its answer.
    pub async fn request(&mut self) -> Result<(), Failure> {
        self.sent += 1;
        match self.scenario.kind {
            Kind::Put => {
                let value = self.random.value(self.value_bytes);
                let key = format!("/registry/put/{}/{}", self.tag, self.sent);
                self.kv.put(put(key.into(), value)).await?;
            }
            Kind::Create => {
                let value = self.random.value(self.value_bytes);
                let key = format!("/registry/create/{}/{}", self.tag, self.sent);
                let done = self.kv.txn(guarded_create(key.into(), value)).await?.into_inner();
                expect(done.succeeded, "a fresh key exists already")?;
            }
            Kind::Update | Kind::Slow | Kind::Pause(_) => {
                let slot = self.any_slot();
                self.update(slot).await?;
            }
            Kind::Get | Kind::GetSerializable => self.get().await?,
            Kind::List => self.page().await?,
            Kind::FirstPage => {
                self.walk = Walk::default();
                self.page().await?;
            }
            Kind::Stream => self.stream().await?,
            Kind::Kube => self.kube().await?,
            Kind::Lease => self.keep_alive().await?,
            Kind::Fanout | Kind::Fill | Kind::Start => unreachable!("they have rounds of their own"),
        }
        Ok(())
    }

    /// Changes a key if it is as this client has left it, or creates it.
    async fn update(&mut self, slot: usize) -> Result<(), Failure> {
        let (key, value) = (self.own_key(slot), self.random.value(self.value_bytes));
        let transaction = match self.revisions[slot] {
            Some(known) => guarded_put(key, known, value),
            None => guarded_create(key, value),
        };
        let done = self.kv.txn(transaction).await?.into_inner();
        expect(done.succeeded, "a key that only this client writes has changed")?;
        self.revisions[slot] = Some(revision(done.header)?);
        Ok(())
    }

    async fn get(&mut self) -> Result<(), Failure> {
        let number = self.random.below(self.scenario.keys as u64) as usize;
        let request = pb::RangeRequest {
            key: prepared_key(&self.prefix, number),
            serializable: self.scenario.kind == Kind::GetSerializable,
            ..Default::default()
        };
        let found = self.kv.range(request).await?.into_inner();
        expect(found.kvs.len() == 1, "a key that was put is not there")
    }

    async fn page(&mut self) -> Result<(), Failure> {
        let walk = std::mem::take(&mut self.walk);
        let request = pb::RangeRequest {
            key: walk.next.unwrap_or_else(|| self.prefix.clone().into()),
            range_end: prefix_end(self.prefix.as_bytes()),
            limit: self.scenario.limit as i64,
            revision: walk.revision,
            ..Default::default()
        };
        let found = self.kv.range(request).await?.into_inner();
        let keys = walk.keys + found.kvs.len();
        if !found.more {
            return expect(keys == self.scenario.keys, "a list that ended with too few keys or too many");
        }
        let last = found.kvs.last().ok_or("an empty page, and more behind it")?;
        // The smallest key behind the last one.
        let next = [&last.key[..], &[0]].concat();
        let revision = if walk.revision == 0 { revision(found.header)? } else { walk.revision };
        self.walk = Walk { next: Some(next.into()), revision, keys };
        Ok(())
    }

    async fn stream(&mut self) -> Result<(), Failure> {
        let request = pb::RangeRequest {
            key: self.prefix.clone().into(),
            range_end: prefix_end(self.prefix.as_bytes()),
            ..Default::default()
        };
        let mut chunks = self.kv.range_stream(request).await?.into_inner();
        let mut keys = 0;
        while let Some(chunk) = chunks.message().await? {
            keys += chunk.range_response.map_or(0, |part| part.kvs.len());
        }
        expect(keys == self.scenario.keys, "a stream with too few keys")
    }

    /// 10 % creates, 60 % updates (a sixtieth of them stale), 10 % deletes, 18 % gets, 2 % lists of a namespace.
    async fn kube(&mut self) -> Result<(), Failure> {
        match self.random.below(100) {
            0..10 => {
                // When all are there it is one more update; deletions make room again.
                let slot = self.slot(false);
                self.update(slot).await
            }
            10..20 => {
                let slot = self.slot(true);
                let Some(known) = self.revisions[slot] else { return self.update(slot).await };
                let done = self.kv.txn(guarded_delete(self.own_key(slot), known)).await?.into_inner();
                self.revisions[slot] = None;
                expect(done.succeeded, "a key that only this client writes has changed")
            }
            20..38 => {
                let slot = self.any_slot();
                let key = self.own_key(slot);
                self.kv.range(pb::RangeRequest { key, ..Default::default() }).await?;
                Ok(())
            }
            38..40 => self.list_namespace().await,
            40..41 => {
                // Somebody else was faster: the guard fails and the answer tells what the key is.
                let slot = self.slot(true);
                let (key, value) = (self.own_key(slot), self.random.value(self.value_bytes));
                let done = self.kv.txn(guarded_put(key, 1, value)).await?.into_inner();
                expect(!done.succeeded, "a stale update succeeded")
            }
            _ => {
                let slot = self.slot(true);
                self.update(slot).await
            }
        }
    }

    async fn list_namespace(&mut self) -> Result<(), Failure> {
        let slot = self.any_slot();
        let namespace = self.namespace(slot);
        let request = pb::RangeRequest {
            range_end: prefix_end(namespace.as_bytes()),
            key: namespace.into(),
            limit: self.scenario.limit as i64,
            ..Default::default()
        };
        self.kv.range(request).await?;
        Ok(())
    }

    fn any_slot(&mut self) -> usize {
        self.random.below(self.revisions.len() as u64) as usize
    }

    /// One of the own keys that is there, or that is not; any if there is no such key.
    fn slot(&mut self, there: bool) -> usize {
        let slots = self.revisions.len();
        let start = self.any_slot();
        let mut order = (start..slots).chain(0..start);
        order.find(|slot| self.revisions[*slot].is_some() == there).unwrap_or(start)
    }

    async fn keep_alive(&mut self) -> Result<(), Failure> {
        let (id, requests, answers) = self.lease.as_mut().ok_or("no lease")?;
        requests.send(pb::LeaseKeepAliveRequest { id: *id }).await?;
        let answer = answers.message().await?.ok_or("the stream has ended")?;
        expect(answer.ttl > 0, "the lease has ended")
    }
}

pub fn revision(header: Option<pb::ResponseHeader>) -> Result<i64, Failure> {
    Ok(header.ok_or("an answer without a header")?.revision)
}

fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
