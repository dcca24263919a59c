//! Opening the socket of a URL.

use crate::config::{Address, Url};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Connections the system holds for us before we accept them. The system lowers it to its own limit.
const BACKLOG: u32 = 4096;

/// When the system asks a silent peer whether it is still there, and how often; Go's figure.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// A stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// An open socket.
#[derive(Debug)]
pub struct Bound {
    url: Url,
    pub(super) socket: Socket,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "dropping it removes the file")] SocketFile),
}

impl Bound {
    /// The URL with the port that the system chose.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Opens the socket of a URL. The error names the URL.
pub async fn bind(url: &Url, reuse_port: bool) -> Result<Bound, String> {
    let opened = match &url.address {
        Address::Tcp { host, port } => bind_tcp(host, *port, reuse_port).map(Socket::Tcp),
        Address::Path(path) => bind_unix(path).await.map(|(listener, file)| Socket::Unix(listener, file)),
    };
    let socket = opened.map_err(|error| format!("cannot listen on {url}: {}", explain(&error)))?;
    let mut url = url.clone();
    if let (Address::Tcp { port, .. }, Socket::Tcp(listener)) = (&mut url.address, &socket) {
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
    }
    Ok(Bound { url, socket })
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "the address is already in use".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

fn bind_tcp(host: &str, port: u16, reuse_port: bool) -> io::Result<TcpListener> {
    if host == "localhost" {
        // Not asked of a resolver: a start must not depend on one.
        let first = listen_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST), port, reuse_port);
        return match first {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                listen_tcp(IpAddr::V6(Ipv6Addr::LOCALHOST), port, reuse_port)
            }
            other => other,
        };
    }
    let host = host.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, "not an IP address"))?;
    listen_tcp(host, port, reuse_port)
}

fn listen_tcp(host: IpAddr, port: u16, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = if host.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart within the same second finds connections of its predecessor in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    if reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(SocketAddr::new(host, port))?;
    socket.listen(BACKLOG)
}

/// What every accepted TCP connection needs.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, TCP_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, TCP_KEEPALIVE)?;
    Ok(())
}

/// The file of a unix socket: removed when dropped, if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is in its place"));
        }
        Ok(_) => {
            // A server that was killed leaves its file; one that lives answers on it.
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(_) => return Err(io::Error::from(ErrorKind::AddrInUse)),
                Err(error) => return Err(error),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok((listener, file))
}
