//! A fake Entra ID on loopback: two discovery documents, two key sets, and access tokens.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::START;

/// How long a test waits for an expected event; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The `aud` claim of tokens for this server.
pub const AUDIENCE: &str = "api://switchboard";
/// The directory of Northwind IT in the demo world.
pub const NORTHWIND_DIRECTORY: &str = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa";
/// The directory of Fabrikam Support.
pub const FABRIKAM_DIRECTORY: &str = "ab0debe7-a000-4c1a-9cab-ab0de00be7a0";
/// A person without a user record.
pub const NEWCOMER: &str = "7f0c1a9e-4f5d-4a38-9c26-8a1d0e6b2c55";

/// Encodes bytes as unpadded base64url, as in tokens.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A signing key and its key id.
pub struct Signer {
    /// The key id in the key set.
    pub kid: &'static str,
    pair: KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        Self {
            kid,
            pair: KeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    /// The modulus and the exponent.
    pub fn numbers(&self) -> (Vec<u8>, Vec<u8>) {
        // An RSAPublicKey of 2,048 bits is a sequence of two integers at fixed offsets.
        let der = self.pair.public_key().as_ref();
        assert_eq!(der.len(), 270);
        (der[9..265].to_vec(), der[267..].to_vec())
    }

    /// The public key as DER.
    pub fn der(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The public key as Entra publishes it: without `alg`.
    pub fn jwk(&self) -> Value {
        let (n, e) = self.numbers();
        json!({
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid, "n": base64url(n), "e": base64url(e),
            "x5c": ["not read"],
        })
    }

    /// A signature with any RSA padding and digest.
    pub fn signature(&self, encoding: &'static dyn RsaEncoding, text: &str) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                encoding,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .unwrap();
        signature
    }

    /// A token of these parts, signed with RS256.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.signature(&RSA_PKCS1_SHA256, &signed);
        format!("{signed}.{}", base64url(signature))
    }

    /// A token of this header and these claims, signed with RS256.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token signed with this algorithm.
    pub fn sign_as(&self, alg: &str, header: &Value, claims: &Value) -> String {
        let encoding: &dyn RsaEncoding = match alg {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            _ => panic!("{alg} is none of RSA's"),
        };
        let signed = format!(
            "{}.{}",
            base64url(header.to_string()),
            base64url(claims.to_string())
        );
        format!("{signed}.{}", base64url(self.signature(encoding, &signed)))
    }

    /// A token as Entra issues it.
    pub fn issue(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// The header of a token as Entra issues it.
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid })
    }
}

/// The authority's current key.
pub fn current() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| Signer::new("current-key"))
}

/// The authority's next key, after a rotation.
pub fn next() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| Signer::new("next-key"))
}

/// An attacker's key under the key id of the authority's current key.
pub fn attackers() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| Signer::new("current-key"))
}

/// How the authority answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Answers,
    /// The authority closes every connection.
    Away,
    /// The authority accepts requests and does not answer them before the mode changes.
    Silent,
}

struct State {
    mood: Mode,
    /// The JSON document at each path.
    documents: HashMap<String, String>,
    asked: Vec<String>,
}

/// A running authority.
pub struct Authority {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Authority {
    /// An authority whose key sets hold its current key.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new((
            Mutex::new(State {
                mood: Mode::Answers,
                documents: HashMap::new(),
                asked: Vec::new(),
            }),
            Condvar::new(),
        ));
        let serving = Arc::clone(&state);
        // The thread ends with the process, so nothing joins it.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&serving);
                thread::spawn(move || answer(stream, &state));
            }
        });
        let authority = Self { address, state };
        let url = authority.url();
        authority.publish(
            "/common/v2.0/.well-known/openid-configuration",
            &json!({ "issuer": format!("{url}/{{tenantid}}/v2.0"), "jwks_uri": format!("{url}/common/discovery/v2.0/keys") }),
        );
        authority.publish(
            "/common/.well-known/openid-configuration",
            &json!({ "issuer": "https://sts.windows.net/{tenantid}/", "jwks_uri": format!("{url}/common/discovery/keys") }),
        );
        authority.publish_keys(&[current().jwk()]);
        authority
    }

    /// The authority's base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes a document at a path.
    pub fn publish(&self, path: &str, document: &Value) {
        let mut state = self.state.0.lock().unwrap();
        state
            .documents
            .insert(path.to_owned(), document.to_string());
    }

    /// Publishes these keys in both key sets.
    pub fn publish_keys(&self, keys: &[Value]) {
        let set = json!({ "keys": keys });
        self.publish("/common/discovery/v2.0/keys", &set);
        self.publish("/common/discovery/keys", &set);
    }

    fn set_mode(&self, mood: Mode) {
        self.state.0.lock().unwrap().mood = mood;
        self.state.1.notify_all();
    }

    /// Closes every connection from now on.
    pub fn refuse_connections(&self) {
        self.set_mode(Mode::Away);
    }

    /// Accepts requests and does not answer them.
    pub fn stop_answering(&self) {
        self.set_mode(Mode::Silent);
    }

    /// Answers again, also the requests that wait.
    pub fn resume_answering(&self) {
        self.set_mode(Mode::Answers);
    }

    /// The paths of all requests so far, in no particular order.
    pub fn requested_paths(&self) -> Vec<String> {
        self.state.0.lock().unwrap().asked.clone()
    }

    /// Waits for this number of requests.
    pub fn wait_for_requests(&self, times: usize) {
        let deadline = Instant::now() + TIMEOUT;
        let mut state = self.state.0.lock().unwrap();
        while state.asked.len() < times {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "asked for {:?} only", state.asked);
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Valid claims of version 2.0 for a person of Northwind, for an hour from the start of the
    /// test.
    pub fn claims(&self, oid: &str) -> Value {
        self.claims_of(NORTHWIND_DIRECTORY, oid)
    }

    /// [`Authority::claims`] for a person of another directory.
    pub fn claims_of(&self, tid: &str, oid: &str) -> Value {
        let now = START / 1_000;
        json!({
            "aud": AUDIENCE, "iss": format!("{}/{tid}/v2.0", self.url()), "iat": now, "nbf": now, "exp": now + 3_600,
            "azp": "0d6e2b3c-5a49-4b0e-8f7d-1c2b3a495867", "name": "Noor Castellanos", "oid": oid,
            "preferred_username": "noor@northwind-it.example", "scp": "access_as_user", "sub": "pairwise", "tid": tid,
            "uti": "u", "ver": "2.0",
        })
    }
}

fn answer(mut stream: TcpStream, state: &(Mutex<State>, Condvar)) {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
            Ok(_) | Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let mut now = state.0.lock().unwrap();
    now.asked.push(path.clone());
    state.1.notify_all();
    while now.mood == Mode::Silent {
        now = state.1.wait(now).unwrap();
    }
    if now.mood == Mode::Away {
        return;
    }
    let reply = match now.documents.get(&path) {
        Some(body) => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
        None => {
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        }
    };
    drop(now);
    // The client may have closed the connection.
    drop(stream.write_all(reply.as_bytes()));
}
