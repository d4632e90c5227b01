//! A fake of what bots call: the login that issues their tokens, and the connector with Teams' own
//! rules for streams. Faults are put before the calls that meet them.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a test waits for an expected state; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The path of the service URL, below which the connector answers.
const BASE: &str = "/teams";

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused with this status, these header lines and this body, and has no effect.
    Refuse(u16, &'static str, Value),
    /// The connection ends before the call has an effect.
    Cut,
    /// The call has its effect, and its reply is lost.
    LoseReply,
    /// The call waits until the test ends, without an effect.
    Hang,
}

/// The refusal of a stream for this reason.
pub fn stream_refusal(message: &str) -> Fault {
    let error = json!({"error": {"code": "ContentStreamNotAllowed", "message": message}});
    Fault::Refuse(403, "", error)
}

/// A call that the connector received.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The conversation.
    pub conversation: String,
    /// The id in the path of an update.
    pub id: Option<String>,
    /// The token, without `Bearer`.
    pub token: Option<String>,
    /// The activity.
    pub activity: Value,
    /// The status of the reply; none if there was none.
    pub status: Option<u16>,
}

impl Call {
    /// What the activity is: `typing`, `message`, `update`, or the type of a stream's step.
    pub fn kind(&self) -> &str {
        let entities = self.activity["entities"].as_array();
        let info = entities
            .into_iter()
            .flatten()
            .find(|entity| entity["type"] == "streaminfo");
        match info {
            Some(info) => info["streamType"].as_str().unwrap(),
            None if self.method == "PUT" => "update",
            None => self.activity["type"].as_str().unwrap(),
        }
    }

    /// The text of the activity.
    pub fn text(&self) -> &str {
        self.activity["text"].as_str().unwrap_or_default()
    }
}

/// A message as the chat shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// The bot that sent it, by the token's.
    pub bot: String,
    /// The activity.
    pub activity: Value,
    /// Whether the reply to the call that sent it was lost.
    pub is_reply_lost: bool,
}

impl Shown {
    /// The text.
    pub fn text(&self) -> &str {
        self.activity["text"].as_str().unwrap_or_default()
    }
}

/// A stream of a conversation.
#[derive(Clone, Debug, Default)]
struct Stream {
    conversation: String,
    sequence: i64,
    text: String,
    end: Option<&'static str>,
}

/// A file that the service host has.
#[derive(Clone, Debug)]
pub struct HeldFile {
    /// The head lines of its reply, without the status line.
    pub head: String,
    /// The content.
    pub content: Vec<u8>,
    /// The status.
    pub status: u16,
}

/// A request for a file: its path and its token.
pub type Fetch = (String, Option<String>);

#[derive(Default)]
pub struct State {
    /// The secrets of the bots, by their ids.
    secrets: HashMap<String, String>,
    /// The bots, by the tokens that they have.
    tokens: HashMap<String, String>,
    /// The paths of the requests for tokens, in order.
    pub logins: Vec<String>,
    /// The status with which tokens are refused.
    refuses_logins: Option<u16>,
    /// Calls that the connector received, in order.
    pub calls: Vec<Call>,
    /// The messages of each conversation, in order.
    shown: HashMap<String, Vec<Shown>>,
    streams: HashMap<String, Stream>,
    faults: VecDeque<(String, String, Fault)>,
    /// The files by their paths.
    files: HashMap<String, HeldFile>,
    /// The requests for files.
    pub fetches: Vec<Fetch>,
    next: usize,
    is_anonymous: bool,
}

impl State {
    fn new_id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}-{}", self.next)
    }

    /// The messages of a conversation, as its people see them.
    pub fn shown(&self, conversation: &str) -> &[Shown] {
        self.shown.get(conversation).map_or(&[], Vec::as_slice)
    }

    /// The texts of those messages.
    pub fn texts(&self, conversation: &str) -> Vec<String> {
        let shown = self.shown(conversation).iter();
        shown.map(|message| message.text().to_owned()).collect()
    }

    /// The calls of a conversation.
    pub fn calls_of<'a>(&'a self, conversation: &'a str) -> impl Iterator<Item = &'a Call> {
        let calls = self.calls.iter();
        calls.filter(move |call| call.conversation == conversation)
    }

    /// The kinds of the calls of a conversation.
    pub fn kinds(&self, conversation: &str) -> Vec<String> {
        let calls = self.calls_of(conversation);
        calls.map(|call| call.kind().to_owned()).collect()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The fake. Clones are the same one.
#[derive(Clone)]
pub struct Connector {
    address: String,
    shared: Arc<Shared>,
}

impl Connector {
    /// Listens on a free port of the loopback address, for these bots and their secrets.
    pub fn start(bots: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let secrets = bots
            .iter()
            .map(|(bot, secret)| ((*bot).to_owned(), (*secret).to_owned()));
        let state = State {
            secrets: secrets.collect(),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let fake = Self {
            address,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if let Ok(connection) = connection {
                        serve(&shared, connection);
                    }
                });
            }
        });
        fake
    }

    /// The URL of the login.
    pub fn login_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The service URL.
    pub fn service_url(&self) -> String {
        format!("http://{}{BASE}/", self.address)
    }

    /// Where the file of this name is.
    pub fn file_url(&self, name: &str) -> String {
        format!("http://{}/files/{name}", self.address)
    }

    /// Has a file of this name.
    pub fn hold_file(&self, name: &str, file: HeldFile) {
        self.state().files.insert(format!("/files/{name}"), file);
    }

    /// Takes calls without a token.
    pub fn without_tokens(self) -> Self {
        self.state().is_anonymous = true;
        self
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Has the next call of a kind in a conversation meet a fault.
    pub fn fail_next(&self, conversation: &str, kind: &str, fault: Fault) {
        let fault = (conversation.to_owned(), kind.to_owned(), fault);
        self.state().faults.push_back(fault);
    }

    /// The number of faults that no call has met.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Forgets the faults that no call has met.
    pub fn forget_faults(&self) {
        self.state().faults.clear();
    }

    /// Refuses tokens with this status from now on, or issues them again.
    pub fn refuse_logins(&self, status: Option<u16>) {
        self.state().refuses_logins = status;
    }

    /// Forgets all tokens, so that calls with them are 401.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Ends the streams of a conversation for a reason, as a person does with Stop.
    pub fn end_streams(&self, conversation: &str, reason: &'static str) {
        for stream in self.state().streams.values_mut() {
            if stream.conversation == conversation && stream.end.is_none() {
                stream.end = Some(reason);
            }
        }
    }

    /// Waits until something is so, and returns what it is.
    #[track_caller]
    pub fn wait_for<T>(&self, wanted: &str, mut find: impl FnMut(&State) -> Option<T>) -> T {
        crate::watchdog::watch();
        let deadline = Instant::now() + TIMEOUT;
        let mut state = self.state();
        loop {
            if let Some(found) = find(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "still not so: {wanted}: {:#?}",
                state
                    .calls
                    .iter()
                    .map(|call| (
                        call.kind(),
                        call.conversation.as_str(),
                        call.status,
                        call.text()
                    ))
                    .collect::<Vec<_>>()
            );
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until a conversation shows this many messages, and returns their texts.
    #[track_caller]
    pub fn wait_for_texts(&self, conversation: &str, count: usize) -> Vec<String> {
        self.wait_for(&format!("{count} messages in {conversation}"), |state| {
            let texts = state.texts(conversation);
            (texts.len() >= count).then_some(texts)
        })
    }
}

/// A text without what the channels of the demo world begin each message with.
pub fn without_prefix(text: &str) -> &str {
    const PREFIXES: [&str; 3] = ["Northwind IT: ", "Northwind IT internal: ", "Fabrikam: "];
    let found = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
    found.unwrap_or(text)
}

/// A request.
struct Request {
    method: String,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
}

fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let read = connection.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head_end + length {
        let read = connection.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
    let mut first = head.lines().next()?.split(' ');
    Some(Request {
        method: first.next()?.to_owned(),
        path: first.next()?.to_owned(),
        token: header("authorization").map(|text| text.trim_start_matches("Bearer ").to_owned()),
        body: bytes[head_end..].to_vec(),
    })
}

/// The reply to a call; none closes the connection.
type Reply = Option<(u16, String, Vec<u8>)>;

fn serve(shared: &Shared, mut connection: TcpStream) {
    let Some(request) = read_request(&mut connection) else {
        return;
    };
    let reply = if request.path.contains("/oauth2/") {
        login(&mut shared.state.lock().unwrap(), &request)
    } else if request.path.starts_with("/files/") {
        file(&mut shared.state.lock().unwrap(), &request)
    } else {
        // Not within the match, which would hold the lock while a call hangs.
        let taken = take_call(&mut shared.state.lock().unwrap(), &request);
        match taken {
            Some(reply) => reply,
            None => {
                // The test ends, or the client gives up.
                let mut rest = [0; 64];
                while connection.read(&mut rest).is_ok_and(|read| read > 0) {}
                return;
            }
        }
    };
    shared.changed.notify_all();
    if let Some((status, head, body)) = reply {
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {status} Fake\r\nconnection: close\r\n{head}content-length: {length}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        drop(connection.write_all(&bytes));
    }
    drop(connection.shutdown(Shutdown::Write));
    let mut rest = [0; 1_024];
    while connection.read(&mut rest).is_ok_and(|read| read > 0) {}
}

fn as_json(status: u16, body: &Value) -> Reply {
    let head = "content-type: application/json\r\n".to_owned();
    Some((status, head, body.to_string().into_bytes()))
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    as_json(
        status,
        &json!({"error": {"code": code, "message": message}}),
    )
}

fn login(state: &mut State, request: &Request) -> Reply {
    state.logins.push(request.path.clone());
    let form: HashMap<String, String> =
        form_urlencoded::parse(&request.body).into_owned().collect();
    if let Some(status) = state.refuses_logins {
        let text = "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1";
        return as_json(
            status,
            &json!({"error": "invalid_client", "error_description": text}),
        );
    }
    let bot = &form["client_id"];
    if state.secrets.get(bot) != Some(&form["client_secret"])
        || form["grant_type"] != "client_credentials"
    {
        let text = "AADSTS7000215: Invalid client secret provided.";
        return as_json(
            401,
            &json!({"error": "invalid_client", "error_description": text}),
        );
    }
    let token = state.new_id("token");
    state.tokens.insert(token.clone(), bot.clone());
    as_json(
        200,
        &json!({"token_type": "Bearer", "expires_in": 3_599, "access_token": token}),
    )
}

fn file(state: &mut State, request: &Request) -> Reply {
    let (path, token) = (request.path.clone(), request.token.clone());
    state.fetches.push((path.clone(), token));
    match state.files.get(&path) {
        Some(file) => Some((file.status, file.head.clone(), file.content.clone())),
        None => error(404, "NotFound", "There is no such file."),
    }
}

/// Takes a call. `None` if it hangs.
fn take_call(state: &mut State, request: &Request) -> Option<Reply> {
    let path = request.path.strip_prefix(BASE).unwrap_or(&request.path);
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (conversation, id) = match segments.as_slice() {
        ["v3", "conversations", conversation, "activities"] => (*conversation, None),
        ["v3", "conversations", conversation, "activities", id] => (*conversation, Some(*id)),
        _ => return Some(error(404, "NotFound", "There is no such path.")),
    };
    let activity: Value = serde_json::from_slice(&request.body).unwrap();
    let mut call = Call {
        method: request.method.clone(),
        conversation: conversation.to_owned(),
        id: id.map(str::to_owned),
        token: request.token.clone(),
        activity,
        status: None,
    };
    let bot = match &request.token {
        Some(token) => state.tokens.get(token).cloned(),
        None => state.is_anonymous.then(String::new),
    };
    let Some(bot) = bot else {
        call.status = Some(401);
        state.calls.push(call);
        return Some(error(401, "Unauthorized", "The token is not valid."));
    };
    let kind = call.kind().to_owned();
    let meets = |(place, kinds, _): &(String, String, Fault)| {
        (place == conversation || place == "*") && (*kinds == kind || kinds == "*")
    };
    let fault = state.faults.iter().position(meets);
    let fault = fault
        .and_then(|at| state.faults.remove(at))
        .map(|(_, _, fault)| fault);
    match fault {
        Some(Fault::Cut) => {
            state.calls.push(call);
            Some(None)
        }
        Some(Fault::Hang) => {
            state.calls.push(call);
            None
        }
        Some(Fault::Refuse(status, head, body)) => {
            call.status = Some(status);
            state.calls.push(call);
            let head = format!("content-type: application/json\r\n{head}");
            Some(Some((status, head, body.to_string().into_bytes())))
        }
        Some(Fault::LoseReply) => {
            let reply = answer(state, &call, &bot, true);
            assert!(reply.is_some());
            state.calls.push(call);
            Some(None)
        }
        None => {
            let reply = answer(state, &call, &bot, false);
            call.status = reply.as_ref().map(|(status, _, _)| *status);
            state.calls.push(call);
            Some(reply)
        }
    }
}

/// Gives a call its effect, by Teams' rules.
fn answer(state: &mut State, call: &Call, bot: &str, is_reply_lost: bool) -> Reply {
    let activity = &call.activity;
    let conversation = call.conversation.as_str();
    assert_eq!(activity["conversation"]["id"], conversation);
    assert!(
        activity.to_string().len() < 28 * 1_024,
        "the activity is too long: {}",
        activity.to_string().len()
    );
    let show = |id: &str| Shown {
        id: id.to_owned(),
        bot: bot.to_owned(),
        activity: activity.clone(),
        is_reply_lost,
    };
    if let Some(id) = &call.id {
        let shown = state.shown.entry(conversation.to_owned()).or_default();
        if let Some(found) = shown.iter_mut().find(|message| message.id == *id) {
            found.activity = activity.clone();
            return as_json(200, &json!({"id": id}));
        }
        let Some(stream) = state.streams.get_mut(id) else {
            return error(
                404,
                "ActivityNotFoundInConversation",
                "There is no such message.",
            );
        };
        // What a stream has shown stays as a message when it ends without a last step.
        stream.end = Some("Content stream is not allowed on an already completed streamed message");
        shown.push(show(id));
        return as_json(200, &json!({"id": id}));
    }
    let entities = activity["entities"].as_array().cloned().unwrap_or_default();
    let info = entities
        .iter()
        .find(|entity| entity["type"] == "streaminfo");
    let Some(info) = info else {
        if activity["type"] == "typing" {
            return as_json(202, &json!({}));
        }
        let id = state.new_id("message");
        let shown = state.shown.entry(conversation.to_owned()).or_default();
        shown.push(show(&id));
        return as_json(201, &json!({"id": id}));
    };
    let kind = info["streamType"].as_str().unwrap();
    let text = activity["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return error(
            400,
            "BadRequest",
            "Start streaming activities should include text",
        );
    }
    let Some(id) = info["streamId"].as_str() else {
        assert_eq!(info["streamSequence"], 1);
        assert_eq!(activity["type"], "typing");
        let id = state.new_id("stream");
        let stream = Stream {
            conversation: conversation.to_owned(),
            sequence: 1,
            text: if kind == "streaming" {
                text.to_owned()
            } else {
                String::new()
            },
            end: None,
        };
        state.streams.insert(id.clone(), stream);
        return as_json(201, &json!({"id": id}));
    };
    let Some(stream) = state.streams.get_mut(id) else {
        return error(
            403,
            "ContentStreamNotAllowed",
            "Content stream is not allowed",
        );
    };
    assert_eq!(stream.conversation, conversation);
    if let Some(reason) = stream.end {
        return error(403, "ContentStreamNotAllowed", reason);
    }
    if kind == "final" {
        assert_eq!(activity["type"], "message");
        assert!(info.get("streamSequence").is_none());
        assert!(
            text.starts_with(&stream.text),
            "{text:?}\n{:?}",
            stream.text
        );
        stream.end = Some("Content stream is not allowed on an already completed streamed message");
        let shown = state.shown.entry(conversation.to_owned()).or_default();
        shown.push(show(id));
        return as_json(202, &json!({}));
    }
    assert_eq!(activity["type"], "typing");
    let sequence = info["streamSequence"].as_i64().unwrap();
    assert_eq!(sequence, stream.sequence + 1);
    stream.sequence = sequence;
    if kind == "streaming" {
        assert!(
            text.starts_with(&stream.text),
            "{text:?}\n{:?}",
            stream.text
        );
        stream.text = text.to_owned();
    }
    as_json(202, &json!({}))
}
