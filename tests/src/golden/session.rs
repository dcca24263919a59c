//! The commands of a script, made on one server.

use super::codec::Dynamic;
use super::expand::{expand, numbered};
use super::render::{self, Names};
use super::schema;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// How long a reply may take: leases of a few seconds run out within it on a loaded machine.
const CALL_LIMIT: Duration = Duration::from_secs(12);
/// How long nothing has to come before it counts as silence.
const SILENCE: Duration = Duration::from_millis(400);

type Reply = Result<Option<DynamicMessage>, Status>;

/// One server and the streams that a script has opened on it.
pub struct Session {
    channel: Channel,
    streams: BTreeMap<String, Stream>,
    /// For the next call.
    metadata: Vec<(String, Vec<u8>)>,
    names: Names,
}

struct Stream {
    method: MethodDescriptor,
    /// `None` once this side is closed.
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    replies: mpsc::UnboundedReceiver<Reply>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    pub fn new(channel: Channel) -> Session {
        Session { channel, streams: BTreeMap::new(), metadata: Vec::new(), names: Names::new() }
    }

    /// Makes one command and gives the reply's lines.
    ///
    /// # Errors
    /// The command is none.
    pub async fn command(&mut self, command: &str) -> Result<Vec<String>, String> {
        let (verb, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match verb {
            "metadata" => self.remember_metadata(rest),
            "wait" => wait(rest).await,
            "let" => self.keep(rest).await,
            "repeat" => self.repeat(rest).await,
            "merge" => self.merge(rest).await,
            "raw" => self.raw(rest).await,
            "open" => self.open(rest),
            "send" => self.send(rest),
            "receive" => self.receive(rest).await,
            "silence" => self.silence(rest).await,
            "close" => self.stream(rest).map(|stream| {
                stream.requests = None;
                Vec::new()
            }),
            "drop" => self.streams.remove(rest).map(|_| Vec::new()).ok_or(format!("no stream {rest}")),
            _ => self.call(command).await.map(|reply| self.show(reply)),
        }
    }

    fn remember_metadata(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let (key, value) = rest.split_once(':').ok_or("metadata KEY: \"VALUE\"")?;
        let value = value.trim().trim_matches('"');
        // The one escape that is needed: a byte that is no UTF-8.
        let value = match value.strip_prefix("\\x") {
            Some(digits) => vec![u8::from_str_radix(digits, 16).map_err(|fault| fault.to_string())?],
            None => value.as_bytes().to_vec(),
        };
        self.metadata.push((key.to_string(), value));
        Ok(Vec::new())
    }

    /// `let NAME = FIELD of CALL`
    async fn keep(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let wanted = "let NAME = FIELD of CALL";
        let (name, rest) = rest.split_once('=').ok_or(wanted)?;
        let (field, call) = rest.split_once(" of ").ok_or(wanted)?;
        let replies = self.call(call.trim()).await?;
        if let Some(Ok(Some(reply))) = replies.first() {
            let value = reply.get_field_by_name(field.trim()).ok_or(format!("no field {field}"))?;
            let number = render::number(&value).ok_or(format!("{field} is no number"))?;
            self.names.insert(name.trim().to_string(), number);
        }
        Ok(self.show(replies))
    }

    /// `repeat N CALL`: the reply is the last one.
    async fn repeat(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let (count, call) = rest.split_once(char::is_whitespace).ok_or("repeat N CALL")?;
        let count: usize = count.parse().map_err(|_| "repeat N CALL".to_string())?;
        let mut last = Vec::new();
        for number in 0..count {
            last = self.call(&numbered(call, number, count)).await?;
        }
        Ok(self.show(last))
    }

    /// `merge CALL`: the replies of a stream as one, by protobuf's rules for merging.
    async fn merge(&mut self, call: &str) -> Result<Vec<String>, String> {
        let mut merged: Option<DynamicMessage> = None;
        let mut rest = Vec::new();
        for reply in self.call(call).await? {
            match (reply, &mut merged) {
                (Ok(Some(next)), Some(merged)) => {
                    merged.merge(next.encode_to_vec().as_slice()).map_err(|fault| fault.to_string())?;
                }
                (Ok(next), _) => merged = next,
                (error, _) => rest.push(error),
            }
        }
        rest.splice(..0, merged.map(|merged| Ok(Some(merged))));
        Ok(self.show(rest))
    }

    /// `Service.Method { … }`: one reply, or those of a stream of them until its end.
    async fn call(&mut self, call: &str) -> Result<Vec<Reply>, String> {
        let (name, text) = call.split_once(char::is_whitespace).unwrap_or((call, "{}"));
        let method = schema::method(name)?;
        let message = self.message(&method, text)?;
        self.exchange(&path(&method), &method, message).await
    }

    /// `raw /PACKAGE.SERVICE/METHOD HEX`: any bytes to any method, as if it were one of a single reply.
    async fn raw(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let (path, digits) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let bytes = (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(|fault| fault.to_string())?;
        let replies = self.exchange(path, &schema::method("KV.Range")?, bytes.into()).await?;
        Ok(self.show(replies))
    }

    async fn exchange(
        &mut self,
        path: &str,
        method: &MethodDescriptor,
        message: Bytes,
    ) -> Result<Vec<Reply>, String> {
        let request = self.with_metadata(message)?;
        let path = PathAndQuery::from_str(path).map_err(|fault| fault.to_string())?;
        let codec = Dynamic(method.output());
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let answer = async {
            client.ready().await.map_err(|fault| Status::unknown(fault.to_string()))?;
            if !method.is_server_streaming() {
                return Ok(vec![Ok(Some(client.unary(request, path, codec).await?.into_inner()))]);
            }
            let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
            let mut replies = Vec::new();
            while let Some(reply) = stream.next().await {
                replies.push(reply.map(Some));
            }
            Ok(replies)
        };
        Ok(match tokio::time::timeout(CALL_LIMIT, answer).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(status)) => vec![Err(status)],
            Err(_) => vec![Err(Status::unknown("(the test waited in vain)"))],
        })
    }

    /// A request of this method, encoded.
    fn message(&self, method: &MethodDescriptor, text: &str) -> Result<Bytes, String> {
        let mut text = expand(text)?;
        for (name, value) in &self.names {
            text = text.replace(&format!("@{name}"), &value.to_string());
        }
        Ok(schema::message(method.input(), &text)?.encode_to_vec().into())
    }

    fn with_metadata<T>(&mut self, message: T) -> Result<Request<T>, String> {
        let mut request = Request::new(message);
        for (key, value) in self.metadata.drain(..) {
            let key = MetadataKey::from_str(&key).map_err(|fault| fault.to_string())?;
            let value = MetadataValue::try_from(value).map_err(|fault| fault.to_string())?;
            request.metadata_mut().insert(key, value);
        }
        Ok(request)
    }

    /// `open NAME Service.Method`, and the request if the client has only one to send.
    fn open(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let wanted = "open NAME Service.Method";
        let (name, rest) = rest.split_once(char::is_whitespace).ok_or(wanted)?;
        let (method, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let method = schema::method(method)?;
        let (requests, sent) = mpsc::unbounded_channel();
        if !text.is_empty() {
            let _ = requests.send(self.message(&method, text)?);
        }
        let request = self.with_metadata(UnboundedReceiverStream::new(sent))?;
        let (replies_in, replies) = mpsc::unbounded_channel();
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let path = PathAndQuery::from_str(&path(&method)).map_err(|fault| fault.to_string())?;
        let codec = Dynamic(method.output());
        // etcd sends its headers with the first reply: the call must not be waited for.
        let task = tokio::spawn(async move {
            let opened = async {
                client.ready().await.map_err(|fault| Status::unknown(fault.to_string()))?;
                client.streaming(request, path, codec).await
            };
            let mut stream = match opened.await {
                Ok(stream) => stream.into_inner(),
                Err(status) => return drop(replies_in.send(Err(status))),
            };
            loop {
                let reply = stream.next().await.transpose();
                let end = !matches!(reply, Ok(Some(_)));
                if replies_in.send(reply).is_err() || end {
                    return;
                }
            }
        });
        let requests = method.is_client_streaming().then_some(requests);
        self.streams.insert(name.to_string(), Stream { method, requests, replies, task });
        Ok(Vec::new())
    }

    /// `send NAME { … }`
    fn send(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let (name, text) = rest.split_once(char::is_whitespace).ok_or("send NAME { … }")?;
        let method = self.stream(name)?.method.clone();
        let message = self.message(&method, text)?;
        let requests = self.stream(name)?.requests.as_ref().ok_or(format!("{name} is closed"))?;
        // A server that has ended the stream says so at the next `receive`.
        let _ = requests.send(message);
        Ok(Vec::new())
    }

    /// `receive NAME [N] [sorted]`: the next replies; sorted where etcd promises no order between watches.
    async fn receive(&mut self, rest: &str) -> Result<Vec<String>, String> {
        let mut words = rest.split_whitespace();
        let name = words.next().ok_or("receive NAME [N] [sorted]")?;
        let count = words.next().map_or(Ok(1), str::parse::<usize>).map_err(|fault| fault.to_string())?;
        let sorted = words.next() == Some("sorted");
        let mut shown = Vec::new();
        for _ in 0..count {
            let next = tokio::time::timeout(CALL_LIMIT, self.stream(name)?.replies.recv()).await;
            shown.push(match next {
                Ok(Some(reply)) => self.show(vec![reply]),
                Ok(None) => vec!["(nothing after the end)".to_string()],
                Err(_) => vec!["(the test waited in vain)".to_string()],
            });
        }
        if sorted {
            shown.sort();
        }
        Ok(shown.join(&String::new()))
    }

    async fn silence(&mut self, name: &str) -> Result<Vec<String>, String> {
        match tokio::time::timeout(SILENCE, self.stream(name)?.replies.recv()).await {
            Ok(Some(reply)) => Ok(self.show(vec![reply])),
            Ok(None) | Err(_) => Ok(Vec::new()),
        }
    }

    fn stream(&mut self, name: &str) -> Result<&mut Stream, String> {
        self.streams.get_mut(name).ok_or_else(|| format!("no stream {name}"))
    }

    fn show(&self, replies: Vec<Reply>) -> Vec<String> {
        let shown: Vec<Vec<String>> = replies
            .into_iter()
            .map(|reply| match reply {
                Ok(Some(message)) => render::lines(&message, &self.names),
                Ok(None) => vec!["(end)".to_string()],
                Err(status) => vec![render::error(&status)],
            })
            .collect();
        shown.join(&String::new())
    }
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

async fn wait(rest: &str) -> Result<Vec<String>, String> {
    let ms = rest.strip_suffix("ms").and_then(|ms| ms.trim().parse().ok()).ok_or("wait N ms")?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(Vec::new())
}
