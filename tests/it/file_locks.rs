//! One server works on one database file, whatever its names; a full disk leaves it readable.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::database::sqlite_only;
use crate::process::{NORTHWIND, SERVE, Server, Workspace};
use crate::shim::{Shim, bytes_in};

/// A request for a session, which writes.
fn write(server: &Server) -> (u16, String) {
    let body = json!({ "agent_id": 102 });
    let reply = server.client().post(NORTHWIND, "/chat/sessions", &body);
    let code = match reply.status {
        201 => String::new(),
        _ => reply.code(),
    };
    (reply.status, code)
}

#[test]
fn a_second_server_on_one_file_through_a_link_is_refused_until_the_first_has_ended() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let link = |name: &str| {
        let folder = workspace.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let (symbolic, hard) = (link("symbolic"), link("hard"));
    symlink(workspace.database(), symbolic.join("switchboard.db")).unwrap();
    fs::hard_link(workspace.database(), hard.join("switchboard.db")).unwrap();
    let server = workspace.serve_demo_world();
    let on = |folder: &std::path::Path| {
        let mut command = workspace.command(SERVE);
        command.env("SWITCHBOARD_DATA", folder);
        command
    };
    let refused = || {
        for folder in [&symbolic, &hard] {
            let done = Server::try_start(on(folder)).err().unwrap();
            let expected = format!(
                "another switchboard serves the data folder {}, or its database under another name; stop it first, or choose another --data",
                folder.display()
            );
            assert_eq!(done.failure(), expected);
            let files = fs::read_dir(folder).unwrap().count();
            assert_eq!(files, 1, "no log beside the link");
        }
    };
    refused();
    // Commands open and close the same file, and leave the server its lock.
    workspace.new_key("northwind-it", "script");
    workspace.ok(["backup", "copy.db"]);
    assert_eq!(write(&server), (201, String::new()));
    refused();
    server.stop();
    let server = Server::start(on(&hard));
    let done = workspace.run(SERVE);
    assert!(
        done.failure().starts_with("another switchboard serves"),
        "{done:?}"
    );
    server.stop();
    workspace.ok(["check"]);
}

#[test]
fn a_server_starts_on_a_full_disk_for_reading_and_recovers_by_itself() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    workspace.serve_demo_world().stop();
    let shim = Shim::of(&workspace);
    shim.limit_to(bytes_in(&workspace.data()));
    let server = Server::start(shim.under(workspace.command(SERVE)));
    let full = (503, "storage_full".to_owned());
    let ready = || {
        let reply = server.client().get("", "/ready");
        (
            reply.status,
            if reply.status == 200 {
                String::new()
            } else {
                reply.code()
            },
        )
    };
    for _ in 0..3 {
        assert_eq!(ready(), full);
        assert_eq!(write(&server), full);
        for path in ["/whoami", "/agents", "/chat/sessions", "/end-companies"] {
            assert_eq!(server.client().get(NORTHWIND, path).status, 200, "{path}");
        }
        // A refused change commits nothing, which is no sign of room.
        let body = json!({ "agent_id": 9_999 });
        let refused = server.client().post(NORTHWIND, "/chat/sessions", &body);
        assert_ne!(refused.status, 201);
        assert_eq!(ready(), full);
    }
    shim.limit_to(0);
    assert_eq!(ready(), (200, String::new()));
    assert_eq!(write(&server), (201, String::new()));
    let (_, log) = {
        server.signal("TERM");
        server.wait()
    };
    let warning = "The server's disk is full. Reading still works.";
    assert!(log.iter().any(|line| line.contains(warning)), "{log:#?}");
    workspace.ok(["check"]);
}

#[test]
fn a_server_that_a_crash_ended_starts_on_a_full_disk_with_everything_acknowledged() {
    sqlite_only!();
    let workspace = Workspace::with_demo_world();
    let server = workspace.serve_demo_world();
    for _ in 0..20 {
        assert_eq!(write(&server), (201, String::new()));
    }
    server.crash();
    let shim = Shim::of(&workspace);
    shim.limit_to(bytes_in(&workspace.data()));
    let server = Server::start(shim.under(workspace.command(SERVE)));
    let listed = server
        .client()
        .get(NORTHWIND, "/chat/sessions?page_size=100");
    assert_eq!(listed.data().as_array().unwrap().len(), 20);
    shim.limit_to(0);
    assert_eq!(server.client().get("", "/ready").status, 200);
    assert_eq!(write(&server), (201, String::new()));
    server.stop();
    workspace.ok(["check"]);
}
