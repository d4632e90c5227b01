"""Replicates a server under load with Litestream, kills both, restores, and compares (contrib/litestream.yml, docs/operations.md).

usage: check.py SWITCHBOARD_BINARY

What a replica holds is about a second behind: so it waits until a restored copy has all that had been acknowledged at one
moment, kills the server and Litestream while more is written, and holds what is restored then to exactly that.
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
# One session in so many is deleted, which has the server empty its log.
DELETES_ONE_IN = 3
PATIENCE_S = 60


def wait_until(what, look):
    """Looks until there is something; what it is."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"waited in vain for {what}")


class Program:
    """A program that runs beside this one, its log in a file."""

    def __init__(self, name, folder, *command):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.begins_at = log.tell()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)

    def said(self, pattern):
        return re.search(pattern, self.log.read_text()[self.begins_at :])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        if code != 0:
            raise SystemExit(f"{self.name} ended with {code}:\n{self.log.read_text()[-4000:]}")


class Load:
    """Writers that open sessions, say something in them and delete some, until they are stopped or the server is gone."""

    def __init__(self, address):
        self.address = address
        self.goes_on = True
        self.lock = threading.Lock()
        # The acknowledged sessions that nobody has asked to delete, each with its acknowledged messages and when it was acknowledged.
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
            while self.goes_on:
                session = self.call(connection, "POST", "/chat/sessions", {"agent_id": TECHNICIAN}, 201)["id"]
                with self.lock:
                    self.sessions[session] = ([], time.monotonic())
                made += 1
                for text in ("How do I connect to the VPN?", "Thank you"):
                    said = self.call(connection, "POST", f"/chat/sessions/{session}/messages", {"message": text}, 202)
                    with self.lock:
                        self.sessions[session][0].append(said["user_message_id"])
                if made % DELETES_ONE_IN == 0:
                    with self.lock:
                        del self.sessions[session]
                    self.call(connection, "DELETE", f"/chat/sessions/{session}", None, 204)
        except (OSError, http.client.HTTPException):
            # The server was killed.
            assert self.goes_on

    def acknowledged(self):
        with self.lock:
            return {session: list(messages) for session, (messages, _) in self.sessions.items()}

    def until(self, more):
        """Waits until so many more sessions are there than now, deleted ones not counted."""
        first = set(self.acknowledged())
        wait_until("load", lambda: len(set(self.acknowledged()) - first) >= more)

    def stop(self):
        self.goes_on = False
        for writer in self.writers:
            writer.join()


def in_file(identifier):
    return bytes.fromhex(identifier.split("_", 1)[1].replace("-", ""))


def ids(path, table):
    with sqlite3.connect(path) as file:
        return {row[0] for row in file.execute(f"SELECT id FROM {table}")}


def lacks(path, acknowledged):
    """Which of what was acknowledged is not in a file."""
    sessions, messages = ids(path, "sessions"), ids(path, "messages")
    missing = []
    for session, said in acknowledged.items():
        missing += [session] * (in_file(session) not in sessions)
        missing += [message for message in said if in_file(message) not in messages]
    return missing


def rows(path):
    """All rows of a file, by table, without what Litestream adds for itself."""
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
        tables = file.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE '\\_litestream%' ESCAPE '\\'"
        ).fetchall()
        return {table: sorted(map(repr, file.execute(f'SELECT * FROM "{table}"'))) for (table,) in tables}


class World:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.data, self.replica = folder / "data", folder / "replica"
        self.recipe = folder / "litestream.yml"
        recipe = RECIPE.read_text()
        for place, ours in (("/var/lib/switchboard", self.data), ("/mnt/elsewhere/switchboard", self.replica)):
            assert place in recipe
            recipe = recipe.replace(place, str(ours))
        self.recipe.write_text(recipe)
        self.run(self.binary, "--data", self.data, "--env", "demo", "import", ROOT / "fixtures" / "demo.json")

    def run(self, *command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, data=None):
        flags = ("--env", "demo", "serve", "--listen", "127.0.0.1:0", "--rate-limit", "0")
        server = Program("switchboard", self.folder, self.binary, "--data", data or self.data, *flags)
        listening = wait_until("the server", lambda: server.said(r"listening on http://(\S+)"))
        return server, listening[1]

    def replicate(self):
        return Program("litestream", self.folder, LITESTREAM, "replicate", "-config", self.recipe)

    def restore(self, name):
        copy = self.folder / name
        copy.unlink(missing_ok=True)
        command = (LITESTREAM, "restore", "-config", self.recipe, "-o", copy, self.data / "switchboard.db")
        # There may be nothing to restore yet.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        return copy if done.returncode == 0 and copy.exists() else None

    def holds(self, acknowledged):
        copy = self.restore("look.db")
        return copy and not lacks(copy, acknowledged)


def kill_all(world):
    """Kills the server and Litestream under load; what had been replicated is restored, and nothing else is in it."""
    server, address = world.serve()
    litestream = world.replicate()
    load = Load(address)
    load.until(100)
    acknowledged = load.acknowledged()
    wait_until("the replica", lambda: world.holds({k: v for k, v in acknowledged.items() if k in load.acknowledged()}))
    load.until(20)
    killed_at = time.monotonic()
    server.kill()
    litestream.kill()
    load.stop()

    copy = world.restore("killed.db")
    kept = {session: said for session, said in acknowledged.items() if session in load.sessions}
    assert copy and not lacks(copy, kept), lacks(copy, kept)
    behind = [killed_at - at for session, (_, at) in load.sessions.items() if in_file(session) not in ids(copy, "sessions")]
    now, then = rows(world.data / "switchboard.db"), rows(copy)
    # A message never changes: what is not in the file any more was deleted behind the moment that was restored.
    strangers = set(then["messages"]) - set(now["messages"])
    deleted = ids(copy, "messages") - ids(world.data / "switchboard.db", "messages")
    assert len(strangers) == len(deleted), strangers

    # The restored file is a data folder again, by the program's own means.
    restored = world.folder / "restored"
    world.run(world.binary, "--data", restored, "restore", copy)
    world.run(world.binary, "--data", restored, "check")
    server, address = world.serve(restored)
    reader = Load.__new__(Load)
    for session, said in list(kept.items())[-10:]:
        listed = reader.call(http.client.HTTPConnection(address), "GET", f"/chat/sessions/{session}/messages")
        # More may have been said by the moment that was restored.
        assert [message["id"] for message in listed if message["role"] == "user"][: len(said)] == said
    server.stop()
    print(
        f"killed under load: {len(load.sessions)} sessions were acknowledged, {len(behind)} of them in the last "
        f"{max(behind, default=0):.2f} s are not in the replica; all {len(kept)} from before are"
    )


def stop_in_order(world):
    """Goes on after the crash, also for a while without Litestream; stopped in order, the replica is the file, row for row."""
    server, address = world.serve()
    litestream = world.replicate()
    load = Load(address)
    load.until(50)
    litestream.kill()
    load.until(50)
    litestream = world.replicate()
    load.until(50)
    load.stop()
    server.stop()
    wait_until("the replica", lambda: world.holds(load.acknowledged()))
    litestream.stop()
    copy = world.restore("stopped.db")
    now, then = rows(world.data / "switchboard.db"), rows(copy)
    assert now.keys() == then.keys()
    for table, there in now.items():
        assert there == then[table], table
    assert not lacks(copy, load.acknowledged())
    print(f"stopped in order: {sum(map(len, now.values()))} rows in {len(now)} tables are the same")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        world = World(binary, pathlib.Path(folder))
        kill_all(world)
        stop_in_order(world)
    print("2 passed, 0 failed")


main()
