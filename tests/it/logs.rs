//! The log: one line per request, without credentials, queries or texts.

use serde_json::{Value, json};

use crate::process::{
    Client, FABRIKAM, NORTHWIND, RELAY, Reply, Server, Workspace, finish, id_and_key,
};

/// A request and its reply, for which the log must have a line.
struct ExpectedLine {
    method: &'static str,
    route: &'static str,
    caller: String,
    reply: Reply,
}

struct Caller<'a> {
    client: &'a Client,
    asked: Vec<ExpectedLine>,
}

impl Caller<'_> {
    /// Makes a call and notes the expected log line: the route and the caller.
    fn call(
        &mut self,
        (method, route): (&'static str, &'static str),
        (key, caller): (&str, &str),
        path: &str,
        body: Option<&Value>,
    ) -> Value {
        let headers = [("idempotency-key", "KEYOFIDEMPOTENCY")];
        let reply = self.client.call(method, key, path, &headers, body).unwrap();
        let json = if reply.body.is_empty() {
            Value::Null
        } else {
            reply.json()
        };
        self.asked.push(ExpectedLine {
            method,
            route,
            caller: caller.to_owned(),
            reply,
        });
        json["data"].clone()
    }
}

#[test]
fn every_request_has_one_line_and_no_line_shows_a_credential_a_query_or_a_text() {
    let workspace = Workspace::with_demo_world();
    let made = workspace.ok([
        "--env",
        "demo",
        "keys",
        "create",
        "--tenant",
        "northwind-it",
        "--name",
        "script",
    ]);
    let (id, key) = id_and_key(&made);
    let server = workspace.serve_demo_world();
    let client = server.client();
    let script = format!("northwind-it/service_account:{id}");
    let script = (key.as_str(), script.as_str());
    let nobody = ("", "-");
    let mut caller = Caller {
        client: &client,
        asked: Vec::new(),
    };

    caller.call(("GET", "/health"), nobody, "/health?q=SECRETQUERY", None);
    caller.call(("GET", "/whoami"), nobody, "/whoami", None);
    caller.call(("GET", "/whoami"), ("SECRETNONSENSE", "-"), "/whoami", None);
    caller.call(
        ("GET", "/whoami"),
        ("neo_sk_demo_SECRETUNKNOWN", "-"),
        "/whoami",
        None,
    );
    caller.call(
        ("GET", "/whoami"),
        ("neo_sk_prod_SECRETELSEWHERE", "-"),
        "/whoami",
        None,
    );
    caller.call(
        ("GET", "/whoami"),
        ("SECRET.SECRET.SECRET", "-"),
        "/whoami",
        None,
    );
    // Admission depends on the route, so an unknown route needs no credential.
    caller.call(
        ("GET", "-"),
        (&key, "-"),
        "/no/SECRETROUTE?SECRETQUERY",
        None,
    );
    caller.call(
        ("PUT", "/chat/sessions"),
        nobody,
        "/chat/sessions?SECRETQUERY",
        None,
    );
    let session = caller.call(
        ("POST", "/chat/sessions"),
        script,
        "/chat/sessions?q=SECRETQUERY",
        Some(&json!({"agent_id": 102, "title": "SECRETTITLE", "metadata": {"SECRETNAME": "SECRETVALUE"}})),
    );
    let session_id = session["id"].as_str().unwrap();
    let token = caller.call(
        ("POST", "/sessions"),
        script,
        "/sessions",
        Some(&json!({"session_id": session_id, "end_user": "SECRETUSER", "end_user_email": "SECRETMAIL@a.example"})),
    );
    let (token, jti) = (
        token["token"].as_str().unwrap(),
        token["jti"].as_str().unwrap(),
    );
    let end_user = format!("northwind-it/end_user_session:{jti}");
    let end_user = (token, end_user.as_str());
    let messages = format!("/chat/sessions/{session_id}/messages");
    caller.call(
        ("POST", "/chat/sessions/{session_id}/messages"),
        end_user,
        &messages,
        Some(&json!({"message": "SECRETMESSAGE", "client_message_id": "SECRETCLIENTID"})),
    );
    caller.call(
        ("POST", "/chat/sessions/{session_id}/messages"),
        end_user,
        &messages,
        Some(&json!({"message": ["SECRETMESSAGE"]})),
    );
    caller.call(
        ("GET", "/chat/sessions/{session_id}/messages"),
        end_user,
        &messages,
        None,
    );
    caller.call(
        ("GET", "/chat/sessions/{session_id}"),
        script,
        "/chat/sessions/ses_SECRETPATH",
        None,
    );
    caller.call(
        ("GET", "/chat/sessions"),
        script,
        "/chat/sessions?q=SECRETQUERY",
        None,
    );
    caller.call(
        ("PATCH", "/chat/sessions/{session_id}"),
        script,
        &format!("/chat/sessions/{session_id}"),
        Some(&json!({"title": "SECRETTITLE two"})),
    );
    caller.call(
        ("DELETE", "/sessions/{jti}"),
        script,
        &format!("/sessions/{jti}"),
        None,
    );
    caller.call(
        ("GET", "/chat/sessions/{session_id}/messages"),
        (token, "-"),
        &messages,
        None,
    );
    let asked = caller.asked;

    // Other tenants' keys, the relay's key, and a key that is revoked while in use.
    client.get(FABRIKAM, "/whoami");
    client.get(NORTHWIND, "/whoami");
    client.post(
        RELAY,
        "/chat/sessions",
        &json!({"client_id": "fabrikam-support", "agent_id": 202, "title": "SECRETTITLE"}),
    );
    workspace.ok(["keys", "revoke", &id]);
    assert_eq!(client.get(&key, "/whoami").status, 401);
    let log = server.stop();

    for asked in &asked {
        let request_id = asked.reply.header("x-request-id").unwrap();
        let lines: Vec<&String> = log
            .iter()
            .filter(|line| line.contains(request_id))
            .collect();
        assert_eq!(lines.len(), 1, "{request_id}: {lines:#?}");
        let (_, line) = lines[0].split_once("switchboard::access] ").unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 6, "{line}");
        let status = asked.reply.status.to_string();
        assert_eq!(
            words[..5],
            [
                request_id,
                asked.caller.as_str(),
                asked.method,
                asked.route,
                status.as_str()
            ],
            "{line}"
        );
        let time = words[5].strip_suffix("ms").unwrap();
        assert!(time.parse::<f64>().unwrap() >= 0.0, "{line}");
    }
    let log = log.join("\n");
    assert_eq!(log.matches("switchboard::access]").count(), asked.len() + 4);
    assert!(!log.contains("SECRET"), "{log}");
    for secret in [key.as_str(), token, "neo_sk_", "KEYOFIDEMPOTENCY", "Bearer"] {
        assert!(!log.contains(secret), "{log}");
    }
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!log.contains(signature), "{log}");
}

#[test]
fn a_request_id_that_a_client_gives_is_the_one_in_the_log() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let given = "8c3d0f5e-0f0a-4a56-9d1c-2b6f6f1f9a11";
    for (sent, is_taken) in [(given, true), ("SECRETREQUESTID", false)] {
        let headers = [("x-request-id", sent)];
        let reply = server
            .client()
            .call("GET", NORTHWIND, "/whoami", &headers, None)
            .unwrap();
        assert_eq!(reply.header("x-request-id") == Some(sent), is_taken);
    }
    let log = server.stop().join("\n");
    assert_eq!(log.matches(given).count(), 1, "{log}");
    assert!(!log.contains("SECRETREQUESTID"), "{log}");
}

#[test]
fn lines_are_flushed_without_further_traffic_and_none_is_lost_or_reordered_at_the_end() {
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let asks = |number: u32| {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let headers = [("x-request-id", id.as_str())];
        let reply = server
            .client()
            .call("GET", NORTHWIND, "/whoami", &headers, None);
        assert_eq!(reply.unwrap().status, 200);
        id
    };
    let mut asked = vec![asks(0)];
    // No later request could flush the line.
    server.wait_for_log(&asked[0]);
    asked.extend((1..300).map(asks));
    let log = server.stop();
    let lines = log.iter().filter(|line| line.contains("GET /whoami 200"));
    let ids: Vec<&str> = lines
        .map(|line| line.split("] ").nth(1).unwrap().split(' ').next().unwrap())
        .collect();
    assert_eq!(ids, asked);
    assert!(log.last().unwrap().ends_with("stopped"), "{log:#?}");
}

#[test]
fn as_json_every_line_is_one_object_and_has_a_request_s_fields_apart() {
    let workspace = Workspace::with_demo_world();
    // A machine may allow fewer open files than the default number of connections.
    let few = ["--max-connections", "100", "--log-format", "json"];
    let server = workspace.serve(
        ["--env", "demo", "--rate-limit", "0"]
            .into_iter()
            .chain(few),
    );
    let client = server.client();
    let asks = |key: &str, path: &str| {
        let reply = client.get(key, path);
        let id = reply.header("x-request-id").unwrap().to_owned();
        (id, reply.status)
    };
    let asked = [
        (asks("", "/health?q=SECRETQUERY"), "-", "/health"),
        (asks("neo_sk_demo_SECRETUNKNOWN", "/whoami"), "-", "/whoami"),
        (
            asks(NORTHWIND, "/agents/1"),
            "northwind-it/service_account:",
            "/agents/{agent_id}",
        ),
    ];
    let log = server.stop();
    assert!(!log.join("\n").contains("SECRET"), "{log:#?}");
    let lines: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let warned = |line: &Value| line["message"].as_str().unwrap().contains("fsync is off");
    for line in lines.iter().filter(|line| !warned(line)) {
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert_eq!(line["level"], "INFO", "{line}");
        for name in ["target", "message"] {
            assert!(!line[name].as_str().unwrap().is_empty(), "{line}");
        }
    }
    let messages = lines.iter().map(|line| line["message"].as_str().unwrap());
    assert!(
        messages
            .clone()
            .any(|message| message.starts_with("listening on http://"))
    );
    assert_eq!(messages.clone().next_back(), Some("stopped"));
    let requests: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "switchboard::access")
        .collect();
    assert_eq!(requests.len(), asked.len());
    for (line, ((id, status), caller, route)) in requests.into_iter().zip(asked) {
        let (found, ms) = (
            line["caller"].as_str().unwrap(),
            line["ms"].as_f64().unwrap(),
        );
        assert!(found.starts_with(caller) && ms >= 0.0, "{line}");
        let expected = json!({
            "time": line["time"], "level": "INFO", "target": "switchboard::access", "message": "request",
            "id": id, "caller": found, "method": "GET", "route": route, "status": status, "ms": ms,
        });
        assert_eq!(*line, expected);
    }
}

#[test]
fn as_json_a_startup_failure_is_an_object_at_every_log_level() {
    let workspace = Workspace::with_demo_world();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for wanted in ["error", "off"] {
        let mut command = workspace.command(["serve", "--listen", &taken, "--log-format", "json"]);
        let done = finish(command.env("RUST_LOG", wanted));
        let line: Value = serde_json::from_str(done.failure()).unwrap();
        let message = line["message"].as_str().unwrap();
        let says = format!("cannot listen on {taken}: ");
        assert!(message.starts_with(&says), "{line}");
        let expected = json!({
            "time": line["time"], "level": "ERROR", "target": "switchboard", "message": message,
        });
        assert_eq!(line, expected);
    }
    // A command that is run by hand prints its one sentence.
    let nobody = ["keys", "list", "--tenant", "nobody"];
    let done = workspace.run(nobody.iter().chain(&["--log-format", "json"]));
    assert!(
        done.failure()
            .starts_with("the tenant \"nobody\" does not exist"),
        "{done:?}"
    );
}

#[test]
fn the_log_format_has_a_variable_and_the_flag_overrides_it() {
    let workspace = Workspace::new();
    let listening = |flags: &[&str]| {
        let mut command = workspace.command(["serve", "--listen", "127.0.0.1:0"]);
        command.args(flags).env("SWITCHBOARD_LOG_FORMAT", "json");
        Server::start(command).wait_for_log("listening on http://")
    };
    assert!(listening(&[]).starts_with("{\"time\":"));
    assert!(listening(&["--log-format", "text"]).starts_with('['));
    let done = workspace.run(["check", "--log-format", "yaml"]);
    assert_eq!(done.code, 2, "{done:?}");
}
