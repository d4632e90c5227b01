//! The socket that a server accepts connections on: an address and port, or a socket file.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// On an address and port.
    Tcp(TcpListener),
    /// On a socket file, for a proxy on this machine. Its clients have no address.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}
