//! The command line.

use crate::scenario::{Kind, Scenario};
use holdfast_tests::Transport;
use std::path::PathBuf;

const HELP: &str = "\
load --start NAME=PROGRAM... [OPTION...]

targets, at least one; the first is what the others are compared with:
  --start NAME=PROGRAM    starts a server with etcd's flags in a fresh directory; ends it afterwards
  --target NAME=URL       a server that runs already: http://HOST:PORT, or unix:PATH
  --transport KIND        of started servers: plain (default), unix, mtls
  --parent DIRECTORY      where started servers put their data (default: the system's place for temporary files)

what is measured:
  --scenarios LIST        of put, create, update, get, get-serializable, list, stream, kube, fanout, lease, start, or all
                          (default create,get,list,kube,fanout,lease)
  --clients LIST          clients of put, create, update, get and lease (default 1,8,64)
  --kube-clients N        clients of the kube mix (default 16)
  --watchers N            watchers of fanout (default 100)
  --keys LIST             keys that list, stream and start work on (default 10000)
  --limit N               keys of a page (default 500)
  --value-bytes N         (default 1024)
  --rounds N              (default 6)
  --seconds N             of a round (default 3)
  --rate N                open loop: so many requests per second of all clients together, instead of as many as possible

what comes out, besides the table:
  --json PATH             all figures of all rounds
  --html PATH             one page with plots
";

pub struct Arguments {
    pub starts: Vec<(String, PathBuf)>,
    pub targets: Vec<(String, String)>,
    pub transport: Transport,
    pub parent: Option<PathBuf>,
    pub scenarios: Vec<Scenario>,
    pub limit: u64,
    pub value_bytes: usize,
    pub rounds: usize,
    pub seconds: f64,
    pub rate: Option<f64>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
}

/// What the scenarios are made of.
struct Lists {
    names: String,
    clients: Vec<usize>,
    kube_clients: usize,
    watchers: usize,
    keys: Vec<usize>,
}

impl Arguments {
    pub fn parse(mut rest: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            starts: Vec::new(),
            targets: Vec::new(),
            transport: Transport::Plain,
            parent: None,
            scenarios: Vec::new(),
            limit: 500,
            value_bytes: 1024,
            rounds: 6,
            seconds: 3.0,
            rate: None,
            json: None,
            html: None,
        };
        let mut lists = Lists {
            names: "create,get,list,kube,fanout,lease".into(),
            clients: vec![1, 8, 64],
            kube_clients: 16,
            watchers: 100,
            keys: vec![10_000],
        };
        while let Some(name) = rest.next() {
            if name == "--help" || name == "-h" {
                return Err(format!("\n{HELP}"));
            }
            let value = rest.next().ok_or(format!("{name} needs a value; --help lists everything"))?;
            arguments.take(&mut lists, &name, &value)?;
        }
        if arguments.starts.is_empty() && arguments.targets.is_empty() {
            return Err("give a --start or a --target; --help lists everything".into());
        }
        if arguments.rounds == 0 || arguments.seconds <= 0.0 {
            return Err("--rounds and --seconds must be above 0".into());
        }
        arguments.scenarios = scenarios(&lists, arguments.limit)?;
        Ok(arguments)
    }

    fn take(&mut self, lists: &mut Lists, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--start" => {
                let (target, program) = pair(name, value)?;
                self.starts.push((target, program.into()));
            }
            "--target" => self.targets.push(pair(name, value)?),
            "--transport" => {
                self.transport = match value {
                    "plain" => Transport::Plain,
                    "unix" => Transport::Unix,
                    "mtls" => Transport::MutualTls,
                    _ => return Err(format!("--transport is plain, unix or mtls, not {value:?}")),
                }
            }
            "--parent" => self.parent = Some(value.into()),
            "--scenarios" => lists.names = value.into(),
            "--clients" => lists.clients = list(name, value)?,
            "--kube-clients" => lists.kube_clients = number(name, value)?,
            "--watchers" => lists.watchers = number(name, value)?,
            "--keys" => lists.keys = list(name, value)?,
            "--limit" => self.limit = number(name, value)? as u64,
            "--value-bytes" => self.value_bytes = number(name, value)?,
            "--rounds" => self.rounds = number(name, value)?,
            "--seconds" => self.seconds = real(name, value)?,
            "--rate" => self.rate = Some(real(name, value)?),
            "--json" => self.json = Some(value.into()),
            "--html" => self.html = Some(value.into()),
            _ => return Err(format!("unknown option {name:?}; --help lists everything")),
        }
        Ok(())
    }
}

fn scenarios(lists: &Lists, limit: u64) -> Result<Vec<Scenario>, String> {
    const ALL: &str = "put,create,update,get,get-serializable,list,stream,kube,fanout,lease,start";
    let names = if lists.names == "all" { ALL } else { &lists.names };
    let mut scenarios = Vec::new();
    for name in names.split(',') {
        let kind = Kind::named(name).ok_or(format!("no scenario {name:?}; there are {ALL}"))?;
        let one = Scenario { kind, clients: 1, keys: 0, limit, watchers: 0 };
        match kind {
            Kind::List | Kind::Stream | Kind::Start => {
                scenarios.extend(lists.keys.iter().map(|keys| Scenario { keys: *keys, ..one }));
            }
            Kind::Kube => {
                scenarios.push(Scenario { clients: lists.kube_clients, keys: 5_000, watchers: 3, ..one })
            }
            Kind::Fanout => scenarios.push(Scenario { clients: 8, watchers: lists.watchers, ..one }),
            _ => scenarios.extend(lists.clients.iter().map(|clients| Scenario {
                clients: *clients,
                keys: 10_000,
                ..one
            })),
        }
    }
    Ok(scenarios)
}

fn pair(name: &str, value: &str) -> Result<(String, String), String> {
    let (left, right) = value.split_once('=').ok_or(format!("{name}: {value:?} is not NAME=VALUE"))?;
    Ok((left.into(), right.into()))
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not a number"))
}

fn real(name: &str, value: &str) -> Result<f64, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not a number"))
}

fn list(name: &str, value: &str) -> Result<Vec<usize>, String> {
    value.split(',').map(|one| number(name, one)).collect()
}
