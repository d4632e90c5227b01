//! Where a server listens: the forms of `--listen`, the sockets themselves, and those that systemd
//! hands over.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, Socket, Type};

use super::Failed;
use crate::http::Listener;

/// Who may use a socket file: its owner and its group, for example the group of a proxy.
const SOCKET_MODE: u32 = 0o660;
/// Connections that wait until the server accepts them.
const BACKLOG: i32 = 4_096;

/// An address that a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // A URL has two slashes before the path.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(FORMS.to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let port = match text.split_once(':') {
            None => text,
            Some((host, port)) if host.is_empty() || host.eq_ignore_ascii_case("localhost") => port,
            Some(_) => return Err(FORMS.to_owned()),
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_number => Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into())),
            Ok(_) | Err(_) => Err(FORMS.to_owned()),
        }
    }
}

/// The forms of an address.
const FORMS: &str = "must be a port of this machine (8080, :8080 or localhost:8080), an address and a port \
                     (127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080), or a socket file (unix:/run/switchboard.sock)";

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Whether the system chooses the port.
    pub(super) fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }

    /// The URL at which a browser on this machine reaches a server that listens here. `None` for a
    /// socket file, which no browser opens.
    ///
    /// A browser cannot open an unspecified address such as 0.0.0.0, so the loopback address
    /// replaces it.
    pub(super) fn url(&self) -> Option<String> {
        let Self::Tcp(address) = self else {
            return None;
        };
        let mut address = *address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        Some(format!("http://{address}"))
    }
}

/// A socket that a server listens on. Dropping it removes its socket file.
pub(super) struct Bound {
    /// The socket.
    listener: Listener,
    /// The address of the socket, with the port that the system chose.
    pub(super) address: ListenAddress,
    /// Whether systemd opened the socket.
    is_handed_over: bool,
    file: Option<SocketFile>,
}

impl Bound {
    /// The place where clients reach the server, for the log.
    pub(super) fn place(&self) -> String {
        let place = match &self.address {
            ListenAddress::Tcp(address) => format!("http://{address}"),
            ListenAddress::Unix(_) => self.address.to_string(),
        };
        match self.is_handed_over {
            true => format!("{place} (a socket of systemd; --listen has no effect)"),
            false => place,
        }
    }

    /// Separates the socket from its file, which must outlive the server.
    pub(super) fn into_parts(self) -> (Listener, Option<SocketFile>) {
        (self.listener, self.file)
    }

    /// A socket on an address and port.
    pub(super) fn tcp(listener: TcpListener) -> io::Result<Self> {
        Ok(Self {
            address: ListenAddress::Tcp(listener.local_addr()?),
            listener: Listener::Tcp(listener),
            is_handed_over: false,
            file: None,
        })
    }
}

/// Listens on an address. `flag` is the flag that named the address.
///
/// # Errors
/// A message for the operator if the address is taken or cannot be used.
pub(super) fn bind(address: &ListenAddress, flag: &str) -> Result<Bound, Failed> {
    let bound = match address {
        ListenAddress::Tcp(address) => TcpListener::bind(address).and_then(Bound::tcp),
        ListenAddress::Unix(path) => bind_file(path),
    };
    bound.map_err(|error| {
        Failed::saying(format!(
            "cannot listen on {address}: {error}; choose another address with {flag}"
        ))
    })
}

/// The socket that systemd opened for this process, if there is one.
///
/// # Errors
/// A message for the operator if there are several sockets, or one of another kind.
pub(super) fn handed_over() -> Result<Option<Bound>, Failed> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => return Ok(None),
        1 => {}
        several => {
            return Err(Failed::saying(format!(
                "systemd handed over {several} sockets, but the server listens on one; keep one ListenStream= in the \
                 socket unit, and give the metrics an address with --metrics-listen"
            )));
        }
    }
    let unusable = |error: io::Error| {
        Failed::saying(format!(
            "cannot use the socket that systemd handed over: {error}; use ListenStream= in the socket unit"
        ))
    };
    if let Ok(Some(listener)) = sockets.take_tcp_listener(0) {
        let bound = Bound::tcp(listener).map_err(unusable)?;
        return Ok(Some(Bound {
            is_handed_over: true,
            ..bound
        }));
    }
    let listener = sockets.take_unix_listener(0).map_err(unusable)?;
    Ok(listener.map(|listener| {
        let address = listener.local_addr().ok();
        let path = address.and_then(|address| address.as_pathname().map(Path::to_owned));
        Bound {
            address: ListenAddress::Unix(path.unwrap_or_default()),
            listener: Listener::Unix(listener),
            is_handed_over: true,
            // systemd removes the file that it made.
            file: None,
        }
    }))
}

/// Listens on a socket file. A file that an earlier server left is replaced if nobody listens on it.
fn bind_file(path: &Path) -> io::Result<Bound> {
    if let Ok(file) = path.symlink_metadata() {
        if !file.file_type().is_socket() {
            return Err(io::Error::other("the file exists and is not a socket"));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?
            }
            Ok(_) => return Err(io::Error::other("another program listens there")),
            Err(error) => return Err(error),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before the socket listens, so the permissions come first.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    let file = SocketFile {
        path: std::path::absolute(path)?,
        inode: path.symlink_metadata()?.ino(),
    };
    socket.listen(BACKLOG)?;
    Ok(Bound {
        listener: Listener::Unix(UnixListener::from(socket)),
        address: ListenAddress::Unix(file.path.clone()),
        is_handed_over: false,
        file: Some(file),
    })
}

/// The file of a socket. Dropping it removes the file, unless another server has replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = self.path.symlink_metadata();
        if found.is_ok_and(|found| found.ino() == self.inode) {
            // The next start replaces a file that stays.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_the_loopback_address_and_others_are_taken_as_they_are() {
        for (text, expected) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LocalHost:0", "127.0.0.1:0"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("unix:/run/s.sock", "unix:/run/s.sock"),
            ("unix:///run/s.sock", "unix:/run/s.sock"),
            ("unix:s.sock", "unix:s.sock"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_forms() {
        for text in [
            "",
            ":",
            "unix:",
            "localhost",
            "70000",
            "-1",
            "+80",
            "::1:8080x",
            "example.com:80",
            "http://127.0.0.1:80",
            "127.0.0.1",
        ] {
            assert_eq!(
                text.parse::<ListenAddress>(),
                Err(FORMS.to_owned()),
                "{text}"
            );
        }
    }
}
