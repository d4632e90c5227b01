//! Two thousand idle or half-closed sockets: they block nobody, and the server closes each of them.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use switchboard::config::ClientTimeouts;

use crate::event_reader::Events;
use crate::faults::address;
use crate::process::{self, Workspace};
use crate::support::{ApiClient, NORTHWIND, Server, technician};
use crate::watchdog::until;
use crate::wire::{Connection, Request};

const SOCKETS: usize = 2_000;
/// The number of sockets that read a stream.
const READERS: usize = SOCKETS / 5;
/// A limit for the memory of all sockets: twice the measured amount.
const MOST_KIB: usize = 64 * 1_024;
/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

/// Raises the limit of open files for both ends of all sockets. Child processes inherit the limit.
fn allow_files() {
    let files = 3 * SOCKETS as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let current = Some(files);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
}

/// A socket with an unfinished request, in one of five states by its number.
fn held(address: SocketAddr, number: usize) -> Connection {
    let mut connection = Connection::open(address);
    let head = Request::new("POST", "/public-api/chat/sessions")
        .header("authorization", format!("Bearer {NORTHWIND}"))
        .text("{\"agent_id\": 102}")
        .head();
    let begun = match number % 5 {
        0 => &[][..],
        1 | 2 => &head[..head.len() / 2],
        _ => &head,
    };
    connection.write(begun).unwrap();
    if number % 5 == 2 || number % 5 == 4 {
        connection.shutdown_write();
    }
    connection
}

fn hold(address: SocketAddr, sockets: usize) -> Vec<Connection> {
    allow_files();
    (0..sockets).map(|number| held(address, number)).collect()
}

/// A follower with a small receive buffer that has read only the response head.
fn open_stalled_follower(address: SocketAddr, session: &str) -> Events {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&address.into()).unwrap();
    let query = "since=0-0&follow=true";
    let reader = Events::over(socket.into(), NORTHWIND, session, query, "");
    assert_eq!(reader.status, 200, "{}", reader.head);
    reader
}

/// Asserts that other clients chat as usual.
fn converse(address: SocketAddr) {
    let northwind = ApiClient::new(address, Some(format!("Bearer {NORTHWIND}")));
    for _ in 0..20 {
        let session = northwind.session(technician());
        let accepted = northwind.append_text(&session, "Hello").expect(202).data();
        let query = format!("since={}", accepted["since_cursor"].as_str().unwrap());
        Events::open(address, NORTHWIND, &session, &query).rest();
        let listed = northwind.messages(&session, "").expect(200).data();
        assert_eq!(listed.as_array().unwrap().len(), 2);
    }
}

fn resident_kib(server: &process::Server) -> usize {
    let status = fs::read_to_string(server.path("status")).unwrap();
    let mut lines = status.lines();
    let resident = lines.find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    resident.unwrap().trim().parse().unwrap()
}

/// The number of open sockets of a server.
fn sockets(server: &process::Server) -> usize {
    let is_socket = |file: &fs::DirEntry| {
        // The file may be closed by now.
        fs::read_link(file.path()).is_ok_and(|what| what.to_string_lossy().starts_with("socket:"))
    };
    let files = fs::read_dir(server.path("fd")).unwrap();
    files.map(Result::unwrap).filter(is_socket).count()
}

#[test]
fn two_thousand_held_sockets_block_nobody_take_little_memory_and_are_all_closed() {
    allow_files();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    let address = address(&server);
    let northwind = ApiClient::new(address, Some(format!("Bearer {NORTHWIND}")));
    let talk = northwind.session(technician());
    for _ in 0..5 {
        northwind
            .append_text(&talk, &"How do I connect to the VPN? ".repeat(300))
            .expect(202);
    }
    drop(northwind);
    converse(address);
    let (sockets_before, kib_before) = (sockets(&server), resident_kib(&server));
    for _ in 0..2 {
        let held = hold(address, SOCKETS - READERS);
        let readers: Vec<Events> = (0..READERS)
            .map(|_| open_stalled_follower(address, &talk))
            .collect();
        converse(address);
        assert!(sockets(&server) > READERS);
        let kib = resident_kib(&server).saturating_sub(kib_before);
        println!(
            "{} sockets: {kib} KiB",
            sockets(&server).saturating_sub(sockets_before)
        );
        assert!(kib < MOST_KIB, "{kib} KiB");
        drop((held, readers));
        until("no socket is kept", || sockets(&server) <= sockets_before);
    }
    converse(address);
    let log = server.stop();
    assert!(
        !log.iter().any(|line| line.contains("panicked")),
        "{log:#?}"
    );
}

#[test]
fn slow_clients_among_two_thousand_are_answered_when_they_continue() {
    let server = Server::with_timeouts(ClientTimeouts {
        head: LONG,
        body: LONG,
        body_silence: LONG,
        ..ClientTimeouts::default()
    });
    let mut held = hold(server.address, SOCKETS);
    converse(server.address);
    for slow in held.iter_mut().skip(3).step_by(5) {
        slow.write(b"{\"agent_id\": 102}").unwrap();
    }
    for slow in held.iter_mut().skip(3).step_by(5) {
        slow.read("POST").unwrap().unwrap().expect(201);
    }
    drop(held);
    converse(server.address);
}

#[test]
fn the_server_closes_each_of_two_thousand_held_and_half_open_sockets() {
    let server = Server::with_timeouts(ClientTimeouts {
        head: SHORT,
        body_silence: SHORT,
        ..ClientTimeouts::default()
    });
    for mut held in hold(server.address, SOCKETS) {
        loop {
            match held.read("POST") {
                Ok(Some(reply)) => assert!(matches!(reply.status, 400 | 408), "{}", reply.text()),
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the server did not end a connection: {error}"),
            }
        }
    }
}
