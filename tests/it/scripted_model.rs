//! A fake chat-completions server that sends exactly the given bytes, valid or not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// How long a test waits for an expected event; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One step of a reply.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Flood(Vec<u8>),
    Hang,
    Wait(Arc<Mutex<Receiver<()>>>),
    Pause(Duration),
}

/// The reply to one request; its end closes the connection.
#[derive(Clone)]
pub struct Reply(Vec<Step>);

impl Reply {
    /// These bytes, including the status line.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self(vec![Step::Send(bytes.as_ref().to_vec())])
    }

    /// No bytes.
    pub fn nothing() -> Self {
        Self(Vec::new())
    }

    /// A complete reply; `headers` are whole lines, each ended by `\r\n`.
    pub fn status(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
    }

    /// An event stream of these bytes, which ends with the connection.
    pub fn events(body: impl AsRef<[u8]>) -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            .then(body)
    }

    /// A valid answer, streamed word by word, with a usage of 7 and 3 tokens.
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

    /// Continues with these bytes.
    pub fn then(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// Continues with these bytes, repeated until the client closes the connection.
    pub fn then_flood(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push(Step::Flood(bytes.as_ref().repeat(64)));
        self
    }

    /// Pauses until the test sends a signal or ends.
    pub fn then_wait(mut self, go_on: Receiver<()>) -> Self {
        self.0.push(Step::Wait(Arc::new(Mutex::new(go_on))));
        self
    }

    /// Pauses for a while, as a slow model does.
    pub fn then_pause(mut self, time: Duration) -> Self {
        self.0.push(Step::Pause(time));
        self
    }

    /// Hangs until the client closes the connection.
    pub fn then_hang(mut self) -> Self {
        self.0.push(Step::Hang);
        self
    }
}

/// One event with this data.
pub fn chunk(data: Value) -> String {
    format!("data: {data}\n\n")
}

/// One event with this delta of text.
pub fn text_chunk(text: &str) -> String {
    chunk(json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request line and the headers, with names in lower case.
    pub head: String,
    /// The body.
    pub body: Value,
}

impl Request {
    /// Whether the body contains this text.
    pub fn has(&self, text: &str) -> bool {
        self.body.to_string().contains(text)
    }
}

/// Chooses the reply to a request by its number, from 0, and its content.
type Script = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// The fake server. The nth request gets the nth reply, and later ones get the last reply.
pub struct ScriptedModel {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    hung_up: Mutex<Receiver<()>>,
}

impl ScriptedModel {
    /// Listens on a free port of the loopback address.
    pub fn start(replies: Vec<Reply>) -> Self {
        Self::answering(move |index, _| {
            let reply = replies.get(index).or(replies.last());
            reply.cloned().unwrap_or_else(Reply::nothing)
        })
    }

    /// A server whose reply depends on the request.
    pub fn answering(script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = base_url(&listener);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (tell_hung_up, hung_up) = channel();
        let recorded = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (script, recorded, tell) = (
                    Arc::clone(&script),
                    Arc::clone(&recorded),
                    tell_hung_up.clone(),
                );
                thread::spawn(move || serve(connection.unwrap(), &*script, &recorded, &tell));
            }
        });
        Self {
            url,
            requests,
            hung_up: Mutex::new(hung_up),
        }
    }

    /// The base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a client closes the connection of a reply that hangs or floods.
    pub fn wait_for_hang_up(&self) {
        self.hung_up
            .lock()
            .unwrap()
            .recv_timeout(TIMEOUT)
            .expect("the client hangs up");
    }
}

/// An address that refuses connections as long as this value lives.
pub struct RefusedAddress {
    url: String,
    _holds_the_port: (TcpListener, TcpStream),
}

impl RefusedAddress {
    /// Reserves a port on which nothing listens.
    pub fn take() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let url = format!("http://{}/v1", stream.local_addr().unwrap());
        Self {
            url,
            _holds_the_port: (listener, stream),
        }
    }

    /// The base URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn base_url(listener: &TcpListener) -> String {
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn serve(
    mut connection: TcpStream,
    script: &Script,
    recorded: &Mutex<Vec<Request>>,
    tell_hung_up: &Sender<()>,
) {
    let Some(request) = read_request(&mut connection) else {
        return;
    };
    let reply = {
        let mut recorded = recorded.lock().unwrap();
        recorded.push(request.clone());
        script(recorded.len() - 1, &request)
    };
    for step in reply.0 {
        match step {
            Step::Send(bytes) => {
                if connection.write_all(&bytes).is_err() {
                    return;
                }
            }
            Step::Flood(bytes) => {
                while connection.write_all(&bytes).is_ok() {}
                // The test may have ended.
                let _ = tell_hung_up.send(());
            }
            Step::Wait(go_on) => {
                let _ = go_on.lock().unwrap().recv();
            }
            Step::Pause(time) => thread::sleep(time),
            Step::Hang => {
                wait_for_end(&mut connection);
                let _ = tell_hung_up.send(());
            }
        }
    }
    // Without this, a reset could discard data that the client has not read yet.
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

/// Reads a request with a `Content-Length`; `None` if the client closes the connection early.
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
