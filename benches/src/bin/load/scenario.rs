//! What there is to measure.

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain put of a fresh key.
    Put,
    /// kube-apiserver's guarded create.
    Create,
    /// kube-apiserver's guarded update of keys that exist.
    Update,
    /// A linearizable read of one key.
    Get,
    /// The same without the promise.
    GetSerializable,
    /// One page after the other, as kube-apiserver lists.
    List,
    /// Everything by RangeStream.
    Stream,
    /// Transactions, reads, lists and open watches in an apiserver's proportions.
    Kube,
    /// Puts, and how long until all watchers were told.
    Fanout,
    /// Keep-alives, one after the other on each client's stream.
    Lease,
    /// A stopped server with data: from its start to its first answer.
    Start,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "put" => Self::Put,
            "create" => Self::Create,
            "update" => Self::Update,
            "get" => Self::Get,
            "get-serializable" => Self::GetSerializable,
            "list" => Self::List,
            "stream" => Self::Stream,
            "kube" => Self::Kube,
            "fanout" => Self::Fanout,
            "lease" => Self::Lease,
            "start" => Self::Start,
            _ => return None,
        })
    }
}

/// A kind of load and its size.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub kind: Kind,
    pub clients: usize,
    /// Keys that are there beforehand.
    pub keys: usize,
    /// Keys of a page.
    pub limit: u64,
    pub watchers: usize,
}

impl Scenario {
    pub fn name(&self) -> String {
        let Self { clients, keys, limit, watchers, .. } = self;
        let plural = if *clients == 1 { "client" } else { "clients" };
        match self.kind {
            Kind::Put => format!("put, {clients} {plural}"),
            Kind::Create => format!("guarded create, {clients} {plural}"),
            Kind::Update => format!("guarded update, {clients} {plural}"),
            Kind::Get => format!("get, {clients} {plural}"),
            Kind::GetSerializable => format!("serializable get, {clients} {plural}"),
            Kind::List => format!("page of {limit} of {keys} keys"),
            Kind::Stream => format!("stream of {keys} keys"),
            Kind::Kube => format!("kube mix, {clients} {plural}"),
            Kind::Fanout => format!("events to {watchers} watchers"),
            Kind::Lease => format!("keep-alive, {clients} {plural}"),
            Kind::Start => format!("start with {keys} keys"),
        }
    }

    /// Connections that the clients share: as many as a few apiservers would open.
    pub fn connections(&self) -> usize {
        match self.clients {
            0..=4 => 1,
            5..=16 => 2,
            17..=128 => 4,
            _ => 8,
        }
    }
}
