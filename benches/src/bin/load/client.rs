//! A client of one scenario: what it sends, request by request.

use crate::Failure;
use crate::arguments::Arguments;
use crate::scenario::{Kind, Scenario};
use crate::target::Target;
use bytes::Bytes;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::{Random, guarded_delete, guarded_put, prefix_end, put};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Keys that one client of `update` works on.
const UPDATE_KEYS: usize = 100;
/// Objects of a namespace in the kube mix.
pub const NAMESPACE_KEYS: usize = 250;
const PREPARED_TOGETHER: usize = 64;
const LEASE_TTL_S: i64 = 600;
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Where the keys of a scenario lie that are there beforehand.
pub fn prefix(scenario: &Scenario) -> String {
    match scenario.kind {
        Kind::Kube => "/registry/kube/".into(),
        _ => format!("/registry/keys-{}/", scenario.keys),
    }
}

fn prepared_key(prefix: &str, number: usize) -> Bytes {
    format!("{prefix}{:04}/{number:08}", number / NAMESPACE_KEYS).into()
}

/// Puts the keys that a scenario expects, once.
pub async fn prepare(target: &mut Target, scenario: &Scenario, arguments: &Arguments) -> Result<(), Failure> {
    let needs =
        matches!(scenario.kind, Kind::Get | Kind::GetSerializable | Kind::List | Kind::Stream | Kind::Start);
    let prefix = prefix(scenario);
    if !needs || !target.prepared.insert(prefix.clone()) {
        return Ok(());
    }
    let kv = KvClient::new(target.channel().await?);
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..PREPARED_TOGETHER {
        let (mut kv, prefix, keys, value_bytes) =
            (kv.clone(), prefix.clone(), scenario.keys, arguments.value_bytes);
        tasks.spawn(async move {
            let mut random = Random::new(client as u64 + 1);
            for number in (client..keys).step_by(PREPARED_TOGETHER) {
                kv.put(put(prepared_key(&prefix, number), random.value(value_bytes))).await?;
            }
            Ok::<(), tonic::Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

pub struct Client {
    scenario: Scenario,
    prefix: String,
    /// Unique to run, number of clients, round and client: no key is ever created twice.
    tag: String,
    value_bytes: usize,
    random: Random,
    sent: u64,
    kv: KvClient<Channel>,
    /// The revisions of this client's own keys, oldest known first.
    revisions: Vec<Option<i64>>,
    /// Where the next page begins.
    next_page: Option<Bytes>,
    lease: Option<(
        i64,
        tokio::sync::mpsc::Sender<pb::LeaseKeepAliveRequest>,
        Streaming<pb::LeaseKeepAliveResponse>,
    )>,
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
        let tag = format!("{run}-{}-{round}-{number}", scenario.clients);
        let random = Random::new((round * 10_000 + number) as u64 + 1);
        let mut client = Self {
            scenario,
            prefix: prefix(&scenario),
            tag,
            value_bytes,
            random,
            sent: 0,
            kv,
            revisions: Vec::new(),
            next_page: None,
            lease: None,
        };
        match scenario.kind {
            Kind::Update => client.own_keys(UPDATE_KEYS).await?,
            Kind::Kube => client.own_keys(scenario.keys / scenario.clients).await?,
            Kind::Lease => client.own_lease(channel).await?,
            _ => {}
        }
        Ok(client)
    }

    fn own_key(&self, slot: usize) -> Bytes {
        // A namespace holds keys of several clients, as in a cluster.
        let namespace = slot * self.scenario.clients / NAMESPACE_KEYS;
        format!("{}{namespace:04}/{}/{slot:06}", self.prefix, self.tag).into()
    }

    async fn own_keys(&mut self, count: usize) -> Result<(), Failure> {
        for slot in 0..count {
            let value = self.random.value(self.value_bytes);
            let done = self.kv.put(put(self.own_key(slot), value)).await?.into_inner();
            self.revisions.push(Some(revision(done.header)?));
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
                let done = self.kv.txn(guarded_put(key.into(), 0, value)).await?.into_inner();
                expect(done.succeeded, "a fresh key exists already")?;
            }
            Kind::Update => {
                let slot = self.random.below(self.revisions.len() as u64) as usize;
                self.update(slot).await?;
            }
            Kind::Get | Kind::GetSerializable => self.get().await?,
            Kind::List => self.page().await?,
            Kind::Stream => self.stream().await?,
            Kind::Kube => self.kube().await?,
            Kind::Lease => self.keep_alive().await?,
            Kind::Fanout | Kind::Start => unreachable!("they have rounds of their own"),
        }
        Ok(())
    }

    async fn update(&mut self, slot: usize) -> Result<(), Failure> {
        let value = self.random.value(self.value_bytes);
        let known = self.revisions[slot].unwrap_or(0);
        let done = self.kv.txn(guarded_put(self.own_key(slot), known, value)).await?.into_inner();
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
        let start = self.next_page.take().unwrap_or_else(|| self.prefix.clone().into());
        let request = pb::RangeRequest {
            key: start,
            range_end: prefix_end(self.prefix.as_bytes()),
            limit: self.scenario.limit as i64,
            ..Default::default()
        };
        let found = self.kv.range(request).await?.into_inner();
        expect(!found.kvs.is_empty(), "an empty page")?;
        self.next_page = found.kvs.last().filter(|_| found.more).map(|kv| {
            // The smallest key behind the last one.
            let mut next = kv.key.to_vec();
            next.push(0);
            next.into()
        });
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

    /// 10 % create, 60 % update (some of them stale), 10 % delete, 18 % get, 2 % list of a namespace.
    async fn kube(&mut self) -> Result<(), Failure> {
        let slot = self.random.below(self.revisions.len() as u64) as usize;
        let key = self.own_key(slot);
        match self.random.below(100) {
            0..2 => {
                let end = key.iter().rposition(|byte| *byte == b'/').expect("a key has slashes");
                let end = key[..end].iter().rposition(|byte| *byte == b'/').expect("a key has slashes") + 1;
                let request = pb::RangeRequest {
                    key: key.slice(..end),
                    range_end: prefix_end(&key[..end]),
                    limit: self.scenario.limit as i64,
                    ..Default::default()
                };
                self.kv.range(request).await?;
            }
            2..20 => {
                self.kv.range(pb::RangeRequest { key, ..Default::default() }).await?;
            }
            20..40 => match self.revisions[slot] {
                Some(known) => {
                    let done = self.kv.txn(guarded_delete(key, known)).await?.into_inner();
                    expect(done.succeeded, "a key that only this client writes has changed")?;
                    self.revisions[slot] = None;
                }
                None => self.update(slot).await?,
            },
            40..41 => {
                // Somebody else was faster: the guard fails and the answer tells what the key is.
                let value = self.random.value(self.value_bytes);
                let done = self.kv.txn(guarded_put(key, 1, value)).await?.into_inner();
                expect(!done.succeeded, "a stale update succeeded")?;
            }
            _ => self.update(slot).await?,
        }
        Ok(())
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
