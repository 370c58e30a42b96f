//! Binding: one socket a shard on the same address, between which the kernel spreads new connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{sockopt, AddressFamily, SocketFlags, SocketType};

/// Connections that may wait to be accepted, a shard. The host may cap it lower (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;

/// Binds `addr` once for each of `shards`. Port 0 becomes the same free port on all of them.
///
/// The kernel lets any process of the same user join a shared port, so two gateways on one port would silently
/// share its clients. Binding alone comes first and tells whether somebody is there already.
pub(crate) fn bind(addr: SocketAddr, shards: u16) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    if addr.port() != 0 {
        let alone = open(addr, false)?;
        rustix::net::listen(&alone, 1)?;
    }
    let first = open(addr, true)?;
    let bound: SocketAddr = rustix::net::getsockname(&first)?.try_into()?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(open(bound, true)?);
    }
    for socket in &sockets {
        rustix::net::listen(socket, BACKLOG)?;
    }
    Ok((bound, sockets))
}

fn open(addr: SocketAddr, shared: bool) -> Result<OwnedFd, Errno> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A port whose last connections linger in TIME_WAIT may be bound again.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners, on every host alike.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    // Accepted sockets inherit it: an answer must not wait for the peer's acknowledgement.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_free_port_is_the_same_on_every_shard() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let (bound, sockets) = bind(addr.parse().unwrap(), 4).unwrap();
            assert_eq!(sockets.len(), 4);
            for socket in &sockets {
                let name: SocketAddr = rustix::net::getsockname(socket)
                    .unwrap()
                    .try_into()
                    .unwrap();
                assert_eq!(name, bound);
            }
        }
    }

    #[test]
    fn a_port_that_somebody_serves_is_an_error_even_for_ourselves() {
        let (bound, _sockets) = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = bind(bound, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_inherit_no_delay() {
        let (bound, sockets) = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let _client = TcpStream::connect(bound).unwrap();
        let accepted = rustix::net::accept(&sockets[0]).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
    }
}
