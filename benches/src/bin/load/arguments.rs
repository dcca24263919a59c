//! The command line.

use crate::scenario::{Kind, Scenario};
use holdfast_tests::Transport;
use std::path::PathBuf;

pub const HELP: &str = "\
load --start NAME=PROGRAM... [OPTION...]

targets, at least one; the first is what the others are compared with:
  --start NAME=PROGRAM    a server with etcd's flags; started in a fresh directory for each scenario that writes
  --ceiling NAME=PROGRAM  the same for a server without a store: measured where it can answer, and never promised anything
  --target NAME=URL       a server that runs already: http://HOST:PORT, https://HOST:PORT, or unix:PATH
  --cacert FILE           the authority that a https --target is checked with
  --cert FILE --key FILE  who we are for a https --target that asks
  --server-name NAME      what a https --target calls itself, if not what its URL says
  --parent DIRECTORY      where started servers put their data (default: the system's place for temporary files)

what is measured:
  --scenarios LIST        of NAME[@SIZE[+SIZE...]][/TRANSPORT][/rate=N], separated by commas, as in
                          create@1+64/mtls,fanout/rate=100,list@10000+1000000; names, and what their sizes are:
                            put create update get get-serializable lease kube     clients
                            list stream fill start pauses                         keys
                            fanout                                                watchers
                            slow                                                  stopped ones of the watchers
                          or all (default create,get,list,kube,fanout,lease)
  --transport KIND        where a scenario does not say it: plain (default), unix, tls, mtls; of started servers
  --rate N                where a scenario does not say it: open loop, so many requests per second of all clients
                          together, instead of as many as possible (slow: 200, pauses: 1000 unless said)
  --clients LIST          sizes of put, create, update, get and lease (default 1,8,64)
  --kube-clients N        size of the kube mix (default 16)
  --watchers N            size of fanout, and all watchers of slow (default 100)
  --keys LIST             sizes of list, stream, fill, start and pauses (default 10000)
  --limit N               keys of a page (default 500)
  --value-bytes N         (default 1024)
  --rounds N              (default 6)
  --seconds N             of a round (default 3)
  --warm-up N             seconds before each round that do not count (default 0.5)

what comes out, besides the tables:
  --json PATH             all figures of all rounds
  --html PATH             one page with plots
  --note TEXT             a line about the machine or the servers that is printed with the rest; can be repeated
";

/// Of the watchers of `slow`, unless said.
const SLOW_RATE: f64 = 200.0;
const PAUSES_RATE: f64 = 1000.0;
/// Keys that `get` reads, `update` goes round in times clients, and the kube mix works on.
const GET_KEYS: usize = 10_000;
const KUBE_KEYS: usize = 5_000;
const KUBE_WATCHERS: usize = 3;
const FILL_CLIENTS: usize = 64;
const PAUSES_CLIENTS: usize = 16;
const WRITERS_BESIDE_WATCHERS: usize = 8;

#[derive(Debug, Default)]
pub struct Arguments {
    pub starts: Vec<(String, PathBuf)>,
    pub ceilings: Vec<(String, PathBuf)>,
    pub targets: Vec<(String, String)>,
    pub tls: TlsFiles,
    pub parent: Option<PathBuf>,
    pub scenarios: Vec<Scenario>,
    pub value_bytes: usize,
    pub rounds: usize,
    pub seconds: f64,
    pub warm_up_s: f64,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub notes: Vec<String>,
}

/// For servers that run already.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub authority: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// What the scenarios are made of.
struct Sizes {
    names: String,
    transport: Transport,
    rate: Option<f64>,
    clients: Vec<usize>,
    kube_clients: usize,
    watchers: usize,
    keys: Vec<usize>,
    limit: usize,
}

impl Arguments {
    pub fn parse(mut rest: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments =
            Self { value_bytes: 1024, rounds: 6, seconds: 3.0, warm_up_s: 0.5, ..Self::default() };
        let mut sizes = Sizes {
            names: "create,get,list,kube,fanout,lease".into(),
            transport: Transport::Plain,
            rate: None,
            clients: vec![1, 8, 64],
            kube_clients: 16,
            watchers: 100,
            keys: vec![10_000],
            limit: 500,
        };
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or(format!("{name} needs a value; --help lists everything"))?;
            if !sizes.take(&name, &value)? && !arguments.take(&name, &value)? {
                return Err(format!("unknown option {name:?}; --help lists everything"));
            }
        }
        arguments.check()?;
        arguments.scenarios = sizes.scenarios()?;
        Ok(arguments)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "--start" => self.starts.push(pair(name, value)?),
            "--ceiling" => self.ceilings.push(pair(name, value)?),
            "--target" => self.targets.push(pair(name, value)?),
            "--cacert" => self.tls.authority = Some(value.into()),
            "--cert" => self.tls.certificate = Some(value.into()),
            "--key" => self.tls.key = Some(value.into()),
            "--server-name" => self.tls.server_name = Some(value.into()),
            "--parent" => self.parent = Some(value.into()),
            "--value-bytes" => self.value_bytes = count(name, value)?,
            "--rounds" => self.rounds = count(name, value)?,
            "--seconds" => self.seconds = positive(name, value)?,
            "--warm-up" => self.warm_up_s = real(name, value)?,
            "--json" => self.json = Some(value.into()),
            "--html" => self.html = Some(value.into()),
            "--note" => self.notes.push(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), String> {
        let starts = self.starts.iter().chain(&self.ceilings).map(|(name, _)| name);
        let names: Vec<&String> = starts.chain(self.targets.iter().map(|(name, _)| name)).collect();
        if self.starts.is_empty() && self.targets.is_empty() {
            return Err("give a --start or a --target; --help lists everything".into());
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(format!("two targets are called {name:?}"));
            }
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err("--cert and --key go together".into());
        }
        Ok(())
    }
}

impl Sizes {
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "--scenarios" => self.names = value.into(),
            "--transport" => self.transport = transport(value)?,
            "--rate" => self.rate = Some(positive(name, value)?),
            "--clients" => self.clients = list(name, value, ',')?,
            "--kube-clients" => self.kube_clients = count(name, value)?,
            "--watchers" => self.watchers = count(name, value)?,
            "--keys" => self.keys = list(name, value, ',')?,
            "--limit" => self.limit = count(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let all = Kind::names();
        let specifications = if self.names == "all" { &all } else { &self.names };
        let mut scenarios = Vec::new();
        for specification in specifications.split(',') {
            self.add(specification, &mut scenarios)?;
        }
        Ok(scenarios)
    }

    /// One specification: `NAME[@SIZE[+SIZE...]][/TRANSPORT][/rate=N]`.
    fn add(&self, specification: &str, scenarios: &mut Vec<Scenario>) -> Result<(), String> {
        let mut parts = specification.split('/');
        let (name, sizes) = match parts.next().unwrap_or_default().split_once('@') {
            Some((name, sizes)) => (name, Some(list(specification, sizes, '+')?)),
            None => (specification.split('/').next().unwrap_or_default(), None),
        };
        let (mut own_transport, mut rate) = (self.transport, self.rate);
        for part in parts {
            match part.split_once('=') {
                Some(("rate", value)) => rate = Some(positive(specification, value)?),
                Some(_) => return Err(format!("{specification}: {part:?} is no TRANSPORT and no rate=N")),
                None => own_transport = transport(part)?,
            }
        }
        let kinds = Kind::named(name).ok_or(format!("no scenario {name:?}; there are {}", Kind::names()))?;
        for kind in kinds {
            let sizes = sizes.clone().unwrap_or_else(|| self.usual_sizes(*kind));
            for size in sizes {
                if size == 0 && *kind != Kind::Slow {
                    return Err(format!("{name}: its size must be above 0"));
                }
                let scenario = self.scenario(*kind, size, rate);
                scenarios.push(Scenario { transport: own_transport, ..scenario });
            }
        }
        Ok(())
    }

    fn usual_sizes(&self, kind: Kind) -> Vec<usize> {
        match kind {
            Kind::List | Kind::FirstPage | Kind::Stream | Kind::Fill | Kind::Start | Kind::Pause(_) => {
                self.keys.clone()
            }
            Kind::Kube => vec![self.kube_clients],
            Kind::Fanout => vec![self.watchers],
            Kind::Slow => vec![0, self.watchers.div_ceil(10)],
            _ => self.clients.clone(),
        }
    }

    fn scenario(&self, kind: Kind, size: usize, rate: Option<f64>) -> Scenario {
        let one = Scenario {
            kind,
            clients: 1,
            keys: GET_KEYS,
            limit: self.limit as u64,
            watchers: 0,
            stopped: 0,
            transport: self.transport,
            rate,
        };
        match kind {
            Kind::List | Kind::FirstPage | Kind::Stream => Scenario { keys: size, ..one },
            // A start is one request; there is no rate to keep.
            Kind::Start => Scenario { keys: size, rate: None, ..one },
            Kind::Fill => Scenario { keys: size, clients: FILL_CLIENTS, rate: None, ..one },
            Kind::Pause(_) => {
                let rate = rate.or(Some(PAUSES_RATE));
                Scenario { keys: size, clients: PAUSES_CLIENTS, rate, ..one }
            }
            Kind::Kube => Scenario { clients: size, keys: KUBE_KEYS, watchers: KUBE_WATCHERS, ..one },
            Kind::Fanout => Scenario { clients: WRITERS_BESIDE_WATCHERS, watchers: size, ..one },
            Kind::Slow => Scenario {
                clients: WRITERS_BESIDE_WATCHERS,
                watchers: self.watchers,
                stopped: size.min(self.watchers),
                rate: rate.or(Some(SLOW_RATE)),
                ..one
            },
            _ => Scenario { clients: size, ..one },
        }
    }
}

fn transport(value: &str) -> Result<Transport, String> {
    match value {
        "plain" => Ok(Transport::Plain),
        "unix" => Ok(Transport::Unix),
        "tls" => Ok(Transport::Tls),
        "mtls" => Ok(Transport::MutualTls),
        _ => Err(format!("a transport is plain, unix, tls or mtls, not {value:?}")),
    }
}

fn pair<T: From<String>>(name: &str, value: &str) -> Result<(String, T), String> {
    let (left, right) = value.split_once('=').ok_or(format!("{name}: {value:?} is not NAME=VALUE"))?;
    Ok((left.into(), right.to_string().into()))
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not a whole number"))
}

fn count(name: &str, value: &str) -> Result<usize, String> {
    number(name, value).and_then(|number| match number {
        0 => Err(format!("{name} must be above 0")),
        _ => Ok(number),
    })
}

fn real(name: &str, value: &str) -> Result<f64, String> {
    let number: f64 = value.parse().map_err(|_| format!("{name}: {value:?} is not a number"))?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err(format!("{name} cannot be {value}")) }
}

fn positive(name: &str, value: &str) -> Result<f64, String> {
    real(name, value).and_then(|number| match number {
        0.0 => Err(format!("{name} must be above 0")),
        _ => Ok(number),
    })
}

fn list(name: &str, value: &str, separator: char) -> Result<Vec<usize>, String> {
    value.split(separator).map(|one| number(name, one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(String::from))
    }

    fn scenarios(list: &str) -> Vec<String> {
        let arguments = parse(&format!("--start a=/bin/a --scenarios {list}")).expect("a good line");
        arguments.scenarios.iter().map(Scenario::name).collect()
    }

    #[test]
    fn a_scenario_says_its_sizes_transport_and_rate() {
        assert_eq!(
            scenarios("create@1+64/mtls,get@8/unix,list@1000,fanout/rate=100,update@2/tls/rate=50.5"),
            [
                "guarded create, 1 client, mTLS",
                "guarded create, 64 clients, mTLS",
                "get, 8 clients, unix socket",
                "page of 500 of 1000 keys",
                "events to 100 watchers, 100/s",
                "guarded update, 2 clients, 50.5/s, TLS",
            ]
        );
        assert_eq!(
            scenarios("slow"),
            ["updates, 0 of 100 watchers stopped, 200/s", "updates, 10 of 100 watchers stopped, 200/s",]
        );
        assert_eq!(scenarios("pauses@5").len(), 4);
    }

    #[test]
    fn all_names_every_scenario() {
        let arguments =
            parse("--start a=/bin/a --scenarios all --clients 3 --keys 7,9").expect("a good line");
        // Six by clients, five by keys of which there are two, four kinds of pauses by keys, kube, fanout, slow twice.
        assert_eq!(arguments.scenarios.len(), 6 + 5 * 2 + 4 * 2 + 1 + 1 + 2);
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, text) in [
            ("", "give a --start or a --target"),
            ("--start", "--start needs a value"),
            ("--start etcd", "\"etcd\" is not NAME=VALUE"),
            ("--start a=b --target a=http://c", "two targets are called \"a\""),
            ("--start a=b --cert c", "--cert and --key go together"),
            ("--start a=b --rounds 0", "--rounds must be above 0"),
            ("--start a=b --seconds 0", "--seconds must be above 0"),
            ("--start a=b --seconds -1", "--seconds cannot be -1"),
            ("--start a=b --seconds NaN", "--seconds cannot be NaN"),
            ("--start a=b --rate x", "\"x\" is not a number"),
            ("--start a=b --clients 1,x", "\"x\" is not a whole number"),
            ("--start a=b --transport tcp", "a transport is plain, unix, tls or mtls"),
            ("--start a=b --scenarios create,dance", "no scenario \"dance\""),
            ("--start a=b --scenarios list@0", "list: its size must be above 0"),
            ("--start a=b --clients 0", "create: its size must be above 0"),
            ("--start a=b --scenarios create@", "\"\" is not a whole number"),
            ("--start a=b --scenarios create/fast", "a transport is plain, unix, tls or mtls"),
            ("--start a=b --scenarios create/speed=3", "is no TRANSPORT and no rate=N"),
            ("--start a=b --loud yes", "unknown option \"--loud\""),
        ] {
            let error = parse(line).map(|_| ()).expect_err(line);
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
