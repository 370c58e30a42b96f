//! One connection: its socket, its half of the conversation, and what waits to be written.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tidegate_codec::mqtt::client::ClientConnection;
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{ReasonCode, Violation};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Unopened,
    /// The socket connects, or CONNECT is on its way.
    AwaitConnAck,
    AwaitSubAck,
    Ready,
    /// DISCONNECT was sent; the broker closes.
    Leaving,
    Closed,
}

/// Why a connection ended, as it is counted; details are told apart in the first few errors only.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// The broker closed it without a word.
    ClosedByBroker,
    /// The broker said why (MQTT 5).
    Disconnected(ReasonCode),
    /// CONNECT was refused.
    Refused(ReasonCode),
    SubscriptionRefused(ReasonCode),
    /// PUBACK, PUBREC or PUBCOMP said no.
    PublishRefused(ReasonCode),
    PayloadTooLarge,
    /// The broker broke a rule of MQTT.
    Violation(Violation),
    System(Errno),
    TimedOut,
}

impl Ending {
    /// The reason by which it is counted.
    pub(crate) fn reason(&self) -> String {
        match self {
            Ending::ClosedByBroker => "closed by the broker".to_owned(),
            Ending::Disconnected(reason) => format!("disconnected: {}", reason.name()),
            Ending::Refused(reason) => format!("connect refused: {}", reason.name()),
            Ending::SubscriptionRefused(reason) => {
                format!("subscription refused: {}", reason.name())
            }
            Ending::PublishRefused(reason) => format!("publish refused: {}", reason.name()),
            Ending::PayloadTooLarge => "payload above the broker's maximum packet size".to_owned(),
            Ending::Violation(violation) => format!("broker broke a rule: {violation}"),
            Ending::System(errno) => system_reason(*errno),
            Ending::TimedOut => "not ready within the connect timeout".to_owned(),
        }
    }
}

impl From<Errno> for Ending {
    fn from(errno: Errno) -> Ending {
        Ending::System(errno)
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Ending {
        Ending::Violation(violation)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason())
    }
}

fn system_reason(errno: Errno) -> String {
    match errno.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".to_owned(),
        ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => {
            "no free local port (give more addresses with --source, or wait a minute for TIME_WAIT)"
                .to_owned()
        }
        _ => errno.to_string(),
    }
}

/// What [`Client::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes stand in the buffer.
    Bytes(usize),
    Nothing,
}

/// What [`Client::flush`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    Everything,
    /// The socket is full; epoll will say when it is not.
    Some,
}

/// One client of this thread.
#[derive(Debug)]
pub(crate) struct Client {
    /// In the plan.
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    pub(crate) conversation: ClientConnection,
    /// Its index among this thread's publishers.
    pub(crate) publisher: Option<u32>,
    /// When the connection was opened; later, when the unanswered PINGREQ was sent; 0: none is.
    pub(crate) since_ns: u64,
    /// In the worker's list of connections to flush.
    pub(crate) is_dirty: bool,
    /// Epoll is asked to say when the socket takes more.
    pub(crate) waits_to_write: bool,
    socket: Option<OwnedFd>,
    /// What is to be written; without capacity while there is nothing.
    pub(crate) out: Vec<u8>,
    written: usize,
    /// The beginning of a packet whose end has not come.
    rest: Vec<u8>,
}

impl Client {
    pub(crate) fn new(number: u32, version: ProtocolVersion) -> Client {
        Client {
            number,
            stage: Stage::Unopened,
            conversation: ClientConnection::new(version),
            publisher: None,
            since_ns: 0,
            is_dirty: false,
            waits_to_write: false,
            socket: None,
            out: Vec::new(),
            written: 0,
            rest: Vec::new(),
        }
    }

    /// Begins to connect; whether it succeeds shows at the first write or read.
    pub(crate) fn open(
        &mut self,
        target: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<&OwnedFd, Errno> {
        let family = if target.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        // Nagle's algorithm would measure itself.
        net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source {
            net::bind(&socket, &SocketAddr::new(source, 0))?;
        }
        match net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(self.socket.insert(socket)),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Reads once, behind what was left of the last packet.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Ending> {
        let Some(socket) = &self.socket else {
            return Ok(Read::Nothing);
        };
        let kept = self.rest.len();
        match net::recv(socket, &mut buffer[kept..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Ending::ClosedByBroker),
            Ok((len, _)) => {
                buffer[..kept].copy_from_slice(&self.rest);
                self.rest.clear();
                Ok(Read::Bytes(kept + len))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Keeps what is left of the input until more has come.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.rest.extend_from_slice(rest);
    }

    /// Writes what waits, in one call.
    pub(crate) fn flush(&mut self) -> Result<Flushed, Errno> {
        let Some(socket) = &self.socket else {
            self.out.clear();
            return Ok(Flushed::Everything);
        };
        match net::send(
            socket,
            &self.out[self.written..],
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(len) => self.written += len,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if self.written < self.out.len() {
            return Ok(Flushed::Some);
        }
        self.out.clear();
        self.written = 0;
        Ok(Flushed::Everything)
    }

    /// Closes the socket; epoll forgets it by itself.
    pub(crate) fn close(&mut self) {
        self.socket = None;
        self.stage = Stage::Closed;
        self.out = Vec::new();
        self.rest = Vec::new();
        self.written = 0;
    }
}
