//! A small HTTP/1.1 client that sends exactly the given bytes and keeps every byte of the reply.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a reply may take; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A request before it is written.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without headers or body; `target` is the path with its query.
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body, without a `Content-Type`.
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to this text with the JSON media type, whether valid JSON or not.
    pub fn text(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").bytes(body)
    }

    /// Sets the body to this JSON.
    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// The head of the request, with the length of its body.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The whole request.
    pub fn written(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A reply, every byte of it.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value; names are in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Whether the server will close the connection.
    fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A connection, which is reused until one side closes it.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to an address.
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Uses a connected stream.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Writes these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sets the timeout of a read.
    pub fn set_read_timeout(&self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
    }

    /// Whether the server sends anything before the timeout of a read.
    pub fn has_data(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(_) => true,
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut));
                false
            }
        }
    }

    /// Closes the writing side of the connection.
    pub fn shutdown_write(&self) {
        // The other side may have closed the connection already.
        drop(self.stream.get_ref().shutdown(Shutdown::Write));
    }

    /// Reads the reply to a request of this method; `None` if the server closed the connection
    /// instead.
    pub fn read(&mut self, method: &str) -> io::Result<Option<Reply>> {
        loop {
            let Some(mut reply) = self.read_head()? else {
                return Ok(None);
            };
            if reply.status == 100 {
                continue;
            }
            if method != "HEAD" && reply.status != 204 && reply.status != 304 {
                reply.body = self.read_body(&reply)?;
            }
            return Ok(Some(reply));
        }
    }

    fn read_head(&mut self) -> io::Result<Option<Reply>> {
        let line = self.read_line()?;
        if line.is_empty() {
            return Ok(None);
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| broken(&line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Reply {
            status,
            headers,
            body: Vec::new(),
        }))
    }

    fn read_body(&mut self, reply: &Reply) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = reply.header("content-length") {
            body.resize(length.parse().map_err(|_| broken(length))?, 0);
            self.stream.read_exact(&mut body)?;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.read_line()?;
                let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| broken(&line))?;
                let begin = body.len();
                body.resize(begin + size, 0);
                self.stream.read_exact(&mut body[begin..])?;
                self.read_line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends a request and reads its reply; returns the connection if the server keeps it open.
    ///
    /// A server may refuse a body and close before reading all of it. Its reply still counts.
    pub fn exchange(mut self, request: &Request) -> io::Result<(Option<Reply>, Option<Self>)> {
        let written = self.write(&request.written());
        let reply = self.read(&request.method)?;
        if reply.is_none() {
            written?;
            return Ok((None, None));
        }
        let keep = written.is_ok() && reply.as_ref().is_some_and(|reply| !reply.closes());
        Ok((reply, keep.then_some(self)))
    }
}

fn broken(line: &str) -> io::Error {
    io::Error::other(format!("this is no HTTP: {line:?}"))
}
