"""Tests replication with Litestream under load (contrib/litestream.yml, docs/operations.md).

usage: check.py SWITCHBOARD_BINARY

A replica is about a second behind. The test notes what the server has acknowledged and waits until
a restored copy contains it. Then the test kills the server and Litestream during more writes,
restores, and checks that the copy contains at least what was noted, and nothing that the server did
not store.
"""

import http.client
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPE = ROOT / "contrib" / "litestream.yml"
LITESTREAM = pathlib.Path(sys.executable).parent / "litestream"
NORTHWIND = "neo_sk_demo_northwind00000000"
TECHNICIAN = 102
WRITERS = 4
# One of this many sessions is deleted, which makes the server truncate its write-ahead log.
DELETES_ONE_IN = 3
TIMEOUT_S = 60


def wait_until(what, look):
    """Calls `look` until it returns a true value, and returns that value."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"timed out waiting for {what}")


class Program:
    """A program in the background. Its log goes to a file."""

    def __init__(self, name, folder, *command):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)

    def logged(self, pattern):
        return re.search(pattern, self.log.read_text()[self.log_start :])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(TIMEOUT_S)
        if code != 0:
            raise SystemExit(f"{self.name} exited with {code}:\n{self.log.read_text()[-4000:]}")


class Load:
    """Threads that create sessions, send messages and delete some sessions, until `stop`."""

    def __init__(self, address):
        self.address = address
        self.is_running = True
        self.lock = threading.Lock()
        # The acknowledged sessions without those that were deleted: the acknowledged messages of
        # each one, and the time of the acknowledgment.
        self.sessions = {}
        self.writers = [threading.Thread(target=self.write) for _ in range(WRITERS)]
        for writer in self.writers:
            writer.start()

    def call(self, connection, method, path, body=None, wanted=200):
        headers = {"authorization": f"Bearer {NORTHWIND}", "content-type": "application/json"}
        connection.request(method, f"/public-api{path}", body and json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        assert reply.status == wanted, (method, path, reply.status, text)
        return json.loads(text)["data"] if text else None

    def write(self):
        connection = http.client.HTTPConnection(self.address)
        made = 0
        try:
            while self.is_running:
                session = self.call(connection, "POST", "/chat/sessions", {"agent_id": TECHNICIAN}, 201)["id"]
                with self.lock:
                    self.sessions[session] = ([], time.monotonic())
                made += 1
                for text in ("How do I connect to the VPN?", "Thank you"):
                    sent = self.call(connection, "POST", f"/chat/sessions/{session}/messages", {"message": text}, 202)
                    with self.lock:
                        self.sessions[session][0].append(sent["user_message_id"])
                if made % DELETES_ONE_IN == 0:
                    with self.lock:
                        del self.sessions[session]
                    self.call(connection, "DELETE", f"/chat/sessions/{session}", None, 204)
        except (OSError, http.client.HTTPException):
            # The server was killed.
            assert self.is_running

    def acknowledged(self):
        with self.lock:
            return {session: list(messages) for session, (messages, _) in self.sessions.items()}

    def until(self, more):
        """Waits for a number of new sessions, not counting deleted ones."""
        first = set(self.acknowledged())
        wait_until("load", lambda: len(set(self.acknowledged()) - first) >= more)

    def stop(self):
        self.is_running = False
        for writer in self.writers:
            writer.join()


def stored_id(identifier):
    """An id as the database stores it."""
    return bytes.fromhex(identifier.split("_", 1)[1].replace("-", ""))


def ids(path, table):
    with sqlite3.connect(path) as file:
        return {row[0] for row in file.execute(f"SELECT id FROM {table}")}


def missing_from(path, acknowledged):
    """The acknowledged sessions and messages that a database file lacks."""
    sessions, messages = ids(path, "sessions"), ids(path, "messages")
    missing = []
    for session, sent in acknowledged.items():
        missing += [session] * (stored_id(session) not in sessions)
        missing += [message for message in sent if stored_id(message) not in messages]
    return missing


def rows(path):
    """All rows of a database file by table, without Litestream's own tables."""
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
        tables = file.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE '\\_litestream%' ESCAPE '\\'"
        ).fetchall()
        return {table: sorted(map(repr, file.execute(f'SELECT * FROM "{table}"'))) for (table,) in tables}


class Installation:
    """A server's data folder, its replica, and the programs that use them."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.data, self.replica = folder / "data", folder / "replica"
        self.recipe = folder / "litestream.yml"
        recipe = RECIPE.read_text()
        for path, replacement in (("/var/lib/switchboard", self.data), ("/mnt/elsewhere/switchboard", self.replica)):
            assert path in recipe
            recipe = recipe.replace(path, str(replacement))
        self.recipe.write_text(recipe)
        self.run(self.binary, "--data", self.data, "--env", "demo", "import", ROOT / "fixtures" / "demo.json")

    def run(self, *command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, data=None):
        flags = ("--env", "demo", "serve", "--listen", "127.0.0.1:0", "--rate-limit", "0")
        server = Program("switchboard", self.folder, self.binary, "--data", data or self.data, *flags)
        listening = wait_until("the server", lambda: server.logged(r"listening on http://(\S+)"))
        return server, listening[1]

    def replicate(self):
        return Program("litestream", self.folder, LITESTREAM, "replicate", "-config", self.recipe)

    def restore(self, name):
        copy = self.folder / name
        copy.unlink(missing_ok=True)
        command = (LITESTREAM, "restore", "-config", self.recipe, "-o", copy, self.data / "switchboard.db")
        # Until the first replication, there is nothing to restore.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        return copy if done.returncode == 0 and copy.exists() else None

    def replica_has(self, acknowledged):
        copy = self.restore("probe.db")
        return copy and not missing_from(copy, acknowledged)


def kill_all(installation):
    """Kills the server and Litestream under load. The copy has exactly what was replicated."""
    server, address = installation.serve()
    litestream = installation.replicate()
    load = Load(address)
    load.until(100)
    acknowledged = load.acknowledged()
    wait_until("the replica", lambda: installation.replica_has({k: v for k, v in acknowledged.items() if k in load.acknowledged()}))
    load.until(20)
    killed_at = time.monotonic()
    server.kill()
    litestream.kill()
    load.stop()

    copy = installation.restore("killed.db")
    kept = {session: sent for session, sent in acknowledged.items() if session in load.sessions}
    assert copy and not missing_from(copy, kept), missing_from(copy, kept)
    lag = [killed_at - at for session, (_, at) in load.sessions.items() if stored_id(session) not in ids(copy, "sessions")]
    now, then = rows(installation.data / "switchboard.db"), rows(copy)
    # A message never changes. A row that only the copy has was deleted after the restored moment.
    only_in_copy = set(then["messages"]) - set(now["messages"])
    deleted = ids(copy, "messages") - ids(installation.data / "switchboard.db", "messages")
    assert len(only_in_copy) == len(deleted), only_in_copy

    # The program restores the copy into a data folder and serves it.
    restored = installation.folder / "restored"
    installation.run(installation.binary, "--data", restored, "restore", copy)
    installation.run(installation.binary, "--data", restored, "check")
    server, address = installation.serve(restored)
    reader = Load.__new__(Load)
    for session, sent in list(kept.items())[-10:]:
        listed = reader.call(http.client.HTTPConnection(address), "GET", f"/chat/sessions/{session}/messages")
        # The restored moment can have more messages.
        assert [message["id"] for message in listed if message["role"] == "user"][: len(sent)] == sent
    server.stop()
    print(
        f"killed under load: of {len(load.sessions)} acknowledged sessions, the replica lacks {len(lag)}, "
        f"all of the last {max(lag, default=0):.2f} s; it has all {len(kept)} earlier ones"
    )


def stop_in_order(installation):
    """Goes on after the crash, for a while without Litestream.

    After an orderly stop, the replica equals the database.
    """
    server, address = installation.serve()
    litestream = installation.replicate()
    load = Load(address)
    load.until(50)
    litestream.kill()
    load.until(50)
    litestream = installation.replicate()
    load.until(50)
    load.stop()
    server.stop()
    wait_until("the replica", lambda: installation.replica_has(load.acknowledged()))
    litestream.stop()
    copy = installation.restore("stopped.db")
    now, then = rows(installation.data / "switchboard.db"), rows(copy)
    assert now.keys() == then.keys()
    for table, stored in now.items():
        assert stored == then[table], table
    assert not missing_from(copy, load.acknowledged())
    print(f"stopped in order: all {sum(map(len, now.values()))} rows in {len(now)} tables are equal")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(binary, pathlib.Path(folder))
        kill_all(installation)
        stop_in_order(installation)
    print("2 passed, 0 failed")


main()
