//! What there is to measure.

use holdfast_tests::Transport;

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
    /// One page after the other to the end and again, as kube-apiserver lists.
    List,
    /// The first page, over and over.
    FirstPage,
    /// Everything by RangeStream.
    Stream,
    /// Transactions, reads, lists and open watches in an apiserver's proportions.
    Kube,
    /// Writes, and how long until all watchers were told.
    Fanout,
    /// Updates while some of many watchers do not read.
    Slow,
    /// Keep-alives, one after the other on each client's stream.
    Lease,
    /// An empty server that is filled, and what it takes then.
    Fill,
    /// A stopped server with data: from its start to its first answer.
    Start,
    /// Updates at a fixed rate while something is asked of the server that may hold them up.
    Pause(Disturbance),
}

/// What may hold writes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing, to compare with.
    Nothing,
    /// Compaction to the newest revision, waited for until old versions are gone.
    Compaction,
    /// A call of Defragment.
    Defragment,
    /// A burst of large writes, which makes any store write its buffers out.
    Flush,
}

/// What a row of figures is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Headline {
    /// Requests or events per second: more is better.
    Rate,
    /// Milliseconds of the typical request: less is better.
    Median,
    /// Milliseconds of the 99th percentile.
    Tail,
    /// Milliseconds of the longest request.
    Longest,
}

/// Names on the command line. `all` is all of them.
const KINDS: &[(&str, &[Kind])] = &[
    ("put", &[Kind::Put]),
    ("create", &[Kind::Create]),
    ("update", &[Kind::Update]),
    ("get", &[Kind::Get]),
    ("get-serializable", &[Kind::GetSerializable]),
    ("list", &[Kind::List]),
    ("first-page", &[Kind::FirstPage]),
    ("stream", &[Kind::Stream]),
    ("kube", &[Kind::Kube]),
    ("fanout", &[Kind::Fanout]),
    ("slow", &[Kind::Slow]),
    ("lease", &[Kind::Lease]),
    ("fill", &[Kind::Fill]),
    ("start", &[Kind::Start]),
    (
        "pauses",
        &[
            Kind::Pause(Disturbance::Nothing),
            Kind::Pause(Disturbance::Compaction),
            Kind::Pause(Disturbance::Defragment),
            Kind::Pause(Disturbance::Flush),
        ],
    ),
];

impl Kind {
    pub fn named(name: &str) -> Option<&'static [Self]> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kinds)| *kinds)
    }

    pub fn names() -> String {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        names.join(",")
    }

    /// Whether it leaves the prepared keys as they are, so that the next one can go on with them.
    pub fn only_reads(self) -> bool {
        matches!(
            self,
            Self::Get | Self::GetSerializable | Self::List | Self::FirstPage | Self::Stream | Self::Start
        )
    }

    /// Whether keys have to be there beforehand.
    pub fn needs_keys(self) -> bool {
        self.only_reads() || matches!(self, Self::Pause(_))
    }

    /// Whether a server without a store can answer it.
    pub fn has_ceiling(self) -> bool {
        matches!(
            self,
            Self::Put
                | Self::Create
                | Self::Update
                | Self::Get
                | Self::GetSerializable
                | Self::List
                | Self::FirstPage
        )
    }
}

/// A kind of load and its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    pub kind: Kind,
    pub clients: usize,
    /// Keys that are there beforehand, or that are put by fill and kube.
    pub keys: usize,
    /// Keys of a page.
    pub limit: u64,
    pub watchers: usize,
    /// So many of the watchers do not read.
    pub stopped: usize,
    pub transport: Transport,
    /// Open loop: requests per second of all clients together.
    pub rate: Option<f64>,
}

impl Scenario {
    pub fn name(&self) -> String {
        let Self { clients, keys, limit, watchers, stopped, .. } = self;
        let plural = if *clients == 1 { "client" } else { "clients" };
        let mut name = match self.kind {
            Kind::Put => format!("put, {clients} {plural}"),
            Kind::Create => format!("guarded create, {clients} {plural}"),
            Kind::Update => format!("guarded update, {clients} {plural}"),
            Kind::Get => format!("get, {clients} {plural}"),
            Kind::GetSerializable => format!("serializable get, {clients} {plural}"),
            Kind::List => format!("page of {limit} of {keys} keys"),
            Kind::FirstPage => format!("first page of {limit} of {keys} keys"),
            Kind::Stream => format!("stream of {keys} keys"),
            Kind::Kube => format!("kube mix, {clients} {plural}"),
            Kind::Fanout => format!("events to {watchers} watchers"),
            Kind::Slow => format!("updates, {stopped} of {watchers} watchers stopped"),
            Kind::Lease => format!("keep-alive, {clients} {plural}"),
            Kind::Fill => format!("fill with {keys} keys"),
            Kind::Start => format!("start with {keys} keys"),
            Kind::Pause(Disturbance::Nothing) => format!("updates, {keys} keys, undisturbed"),
            Kind::Pause(Disturbance::Compaction) => format!("updates, {keys} keys, compaction"),
            Kind::Pause(Disturbance::Defragment) => format!("updates, {keys} keys, defragment"),
            Kind::Pause(Disturbance::Flush) => format!("updates, {keys} keys, 32 MiB written"),
        };
        if let Some(rate) = self.rate {
            name.push_str(&format!(", {rate}/s"));
        }
        name.push_str(match self.transport {
            Transport::Plain => "",
            Transport::Unix => ", unix socket",
            Transport::Tls => ", TLS",
            Transport::MutualTls => ", mTLS",
        });
        name
    }

    /// What it is about: at a fixed rate it is the latency that tells servers apart.
    pub fn headline(&self) -> Headline {
        match self.kind {
            Kind::Start => Headline::Median,
            Kind::Slow => Headline::Tail,
            Kind::Pause(_) => Headline::Longest,
            _ if self.rate.is_some() => Headline::Median,
            _ => Headline::Rate,
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

    /// Whether it can go on with what the one before has left, instead of fresh servers.
    pub fn goes_on_after(&self, before: &Self) -> bool {
        self.kind.only_reads()
            && (before.kind.only_reads() || before.kind == Kind::Fill)
            && (self.keys, self.transport) == (before.keys, before.transport)
    }
}
