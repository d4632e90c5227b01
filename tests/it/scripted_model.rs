//! A stand-in for a chat-completions server that says exactly the bytes it is told to, right or wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// How long a test waits for what must happen; only a failing test waits so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One step of a reply.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Flood(Vec<u8>),
    Hang,
    Wait(Arc<Mutex<Receiver<()>>>),
}

/// What one request is answered with; at its end the connection is closed.
#[derive(Clone)]
pub struct Reply(Vec<Step>);

impl Reply {
    /// These bytes, status line and all.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self(vec![Step::Send(bytes.as_ref().to_vec())])
    }

    /// Nothing at all.
    pub fn nothing() -> Self {
        Self(Vec::new())
    }

    /// A plain reply; `headers` are whole lines, each ended by `\r\n`.
    pub fn status(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
    }

    /// An event stream of these bytes, ended by the close of the connection.
    pub fn events(body: impl AsRef<[u8]>) -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            .then(body)
    }

    /// A well-formed answer, streamed word by word; it costs 7 tokens and 3.
    pub fn answer(text: &str) -> Self {
        let mut body = chunk(json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}));
        for word in text.split_inclusive(' ') {
            body += &text_chunk(word);
        }
        body += &chunk(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}));
        body += &chunk(
            json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}),
        );
        Self::events(body + "data: [DONE]\n\n")
    }

    /// Then these bytes.
    pub fn then(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// Then these bytes over and over until the client hangs up.
    pub fn then_flood(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Step::Flood(bytes.as_ref().repeat(64)));
        self
    }

    /// Then silence until the test says to go on, or is over.
    pub fn then_wait(mut self, go_on: Receiver<()>) -> Self {
        self.0.push(Step::Wait(Arc::new(Mutex::new(go_on))));
        self
    }

    /// Then silence until the client hangs up.
    pub fn then_hang(mut self) -> Self {
        self.0.push(Step::Hang);
        self
    }
}

/// One event with this data.
pub fn chunk(data: Value) -> String {
    format!("data: {data}\n\n")
}

/// One event that says this text.
pub fn text_chunk(text: &str) -> String {
    chunk(json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The first line and the headers, names in lower case.
    pub head: String,
    /// The body.
    pub body: Value,
}

/// The stand-in. Its nth request gets the nth reply, every later one the last.
pub struct ScriptedModel {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    hung_up: Mutex<Receiver<()>>,
}

impl ScriptedModel {
    /// Listens on a free port of the loopback address.
    pub fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = base_url(&listener);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (tell_hung_up, hung_up) = channel();
        let recorded = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (replies, recorded, tell) =
                    (replies.clone(), Arc::clone(&recorded), tell_hung_up.clone());
                thread::spawn(move || serve(connection.unwrap(), &replies, &recorded, &tell));
            }
        });
        Self {
            url,
            requests,
            hung_up: Mutex::new(hung_up),
        }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a client has hung up on a reply that hangs or floods.
    pub fn wait_for_hang_up(&self) {
        self.hung_up
            .lock()
            .unwrap()
            .recv_timeout(TIMEOUT)
            .expect("the client hangs up");
    }
}

/// An address that refuses connections for as long as this lives.
pub struct RefusedAddress {
    url: String,
    _holds_the_port: (TcpListener, TcpStream),
}

impl RefusedAddress {
    /// Takes a port on which nothing listens.
    pub fn take() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let url = format!("http://{}/v1", stream.local_addr().unwrap());
        Self {
            url,
            _holds_the_port: (listener, stream),
        }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn base_url(listener: &TcpListener) -> String {
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn serve(
    mut connection: TcpStream,
    replies: &[Reply],
    recorded: &Mutex<Vec<Request>>,
    tell_hung_up: &Sender<()>,
) {
    let Some(request) = read_request(&mut connection) else {
        return;
    };
    let reply = {
        let mut recorded = recorded.lock().unwrap();
        recorded.push(request);
        replies.get(recorded.len() - 1).or(replies.last()).cloned()
    };
    for step in reply.map(|reply| reply.0).unwrap_or_default() {
        match step {
            Step::Send(bytes) => {
                if connection.write_all(&bytes).is_err() {
                    return;
                }
            }
            Step::Flood(bytes) => {
                while connection.write_all(&bytes).is_ok() {}
                // The test may be over.
                let _ = tell_hung_up.send(());
            }
            Step::Wait(go_on) => {
                let _ = go_on.lock().unwrap().recv();
            }
            Step::Hang => {
                wait_for_end(&mut connection);
                let _ = tell_hung_up.send(());
            }
        }
    }
    // A client that is still to read what was sent must not lose it to a reset.
    let _ = connection.shutdown(Shutdown::Write);
    wait_for_end(&mut connection);
}

fn wait_for_end(connection: &mut TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Reads a request whose length is told; `None` if the client leaves before its end.
fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut more = |bytes: &mut Vec<u8>| match connection.read(&mut buffer) {
        Ok(count) if count > 0 => {
            bytes.extend_from_slice(&buffer[..count]);
            Some(())
        }
        Ok(_) | Err(_) => None,
    };
    let head_bytes = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8(bytes[..head_bytes].to_vec()).unwrap();
    let head = head
        .lines()
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_lowercase()),
            None => format!("{line}\n"),
        })
        .collect::<String>();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?
        .parse()
        .unwrap();
    while bytes.len() < head_bytes + length {
        more(&mut bytes)?;
    }
    Some(Request {
        head,
        body: serde_json::from_slice(&bytes[head_bytes..]).unwrap(),
    })
}
