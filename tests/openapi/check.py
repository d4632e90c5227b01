"""Asks a running server everything that its document allows and forbids, as each kind of caller (schemathesis).

usage: check.py SWITCHBOARD_BINARY [SEED...]

Beside what schemathesis checks, each operation that names nothing in its path has to succeed at least once, so that a
document or a configuration under which everything is refused does not pass.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
NORTHWIND = "neo_sk_demo_northwind00000000"
RELAY = "neo_sk_demo_relay0000platform"
TECHNICIAN = 102
ADMINISTRATOR = "an administrator"
# What only succeeds with something that no document tells: a link's code, a person's own sign-in, a session's id.
HARD = {"exchangeCode", "signOut", "mintSessionToken"}
ACCESS = re.compile(r"switchboard::access\] \S+ \S+ ([A-Z]+) (/\S*) (\d{3}) ")


class Server:
    """The demo on a folder and a port of its own; its log is read to the end, so that it never waits for room."""

    def __init__(self, binary, folder):
        self.statuses = collections.Counter()
        self.other = []
        command = [binary, "demo", "--data", folder, "--listen", "127.0.0.1:0", "--rate-limit", "0"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.listening = threading.Event()
        self.url = None
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.listening.wait(30)
        if self.url is None:
            raise SystemExit("the server does not listen:\n" + "".join(self.other))

    def read_log(self):
        for line in self.process.stderr:
            found = ACCESS.search(line)
            if found:
                method, route, status = found.groups()
                self.statuses[method, route, int(status)] += 1
                continue
            self.other.append(line)
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                self.url = found[1]
                self.listening.set()
        self.listening.set()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self.reader.join(10)
        return code


def call(url, method, path, token=None, body=None):
    request = urllib.request.Request(
        f"{url}/public-api{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def administrator(binary, folder, url):
    """Somebody who signed in by a link."""
    command = [binary, "login-link", "--data", folder, "--env", "demo", "--tenant", "northwind-it"]
    link = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    code = link.strip().rpartition("#code=")[2]
    return call(url, "POST", "/auth/exchange", body={"code": code})["data"]["token"]


def guest(url):
    """A token for one session."""
    session = call(url, "POST", "/chat/sessions", NORTHWIND, {"agent_id": TECHNICIAN})["data"]["id"]
    return call(url, "POST", "/sessions", NORTHWIND, {"session_id": session})["data"]["token"]


def check(url, caller, token, seed, folder):
    """Whether a run as this caller finds nothing."""
    print(f"\n== {caller}, seed {seed}", flush=True)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{url}/public-api/openapi.json", "--checks", "all", "--seed", str(seed),
    ]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    else:
        # Nothing that needs a credential may be accepted.
        command += ["--exclude-checks", "positive_data_acceptance"]
    if caller == ADMINISTRATOR:
        # It would end the very sign-in.
        command += ["--exclude-operation-id", "signOut"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, cwd=folder, timeout=600).returncode == 0


def never_succeeded(document, statuses):
    """The operations that no caller ever did: those that must have been done, and the others."""
    must, may = [], []
    for path, item in document["paths"].items():
        route = path.removeprefix("/public-api")
        for method, operation in item.items():
            name = operation["operationId"]
            if not any(statuses[method.upper(), route, status] for status in range(200, 300)):
                (may if name in HARD or "{" in path else must).append(name)
    return must, may


def main():
    binary, seeds = sys.argv[1], [int(seed) for seed in sys.argv[2:]] or [1]
    failed = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="switchboard-openapi-") as folder:
            data = str(pathlib.Path(folder, "data"))
            server = Server(binary, data)
            try:
                document = call(server.url, "GET", "/openapi.json")
                # Before a code was guessed, since whoever guesses waits.
                signed_in = administrator(binary, data, server.url)
                # In this order: an administrator ends keys, the platform sets limits. A session's token is made when
                # it is needed, since the session may be removed before.
                callers = {
                    "a service account": lambda: NORTHWIND,
                    "a session's token": lambda: guest(server.url),
                    ADMINISTRATOR: lambda: signed_in,
                    "a platform account": lambda: RELAY,
                    "nobody": lambda: None,
                }
                for caller, token in callers.items():
                    if not check(server.url, caller, token(), seed, folder):
                        failed.append(f"seed {seed}, {caller}")
            finally:
                code = server.stop()
            if code != 0:
                failed.append(f"seed {seed}: the server ended with {code}")
            missing, unreached = never_succeeded(document, server.statuses)
            if missing:
                failed.append(f"seed {seed}: these never succeeded: {', '.join(missing)}")
            print(f"\nNever done: {', '.join(missing + unreached) or 'none'}")
            print(f"{sum(server.statuses.values())} requests, by status:", end=" ")
            by_status = collections.Counter()
            for (_, _, status), count in server.statuses.items():
                by_status[status] += count
            print(", ".join(f"{status}: {count}" for status, count in sorted(by_status.items())))
    for failure in failed:
        print(f"FAILED: {failure}")
    raise SystemExit(1 if failed else 0)


main()
