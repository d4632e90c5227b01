"""Tests a running server against its OpenAPI document with schemathesis, as each kind of caller.

usage: check.py SWITCHBOARD_BINARY [SEED...]

In addition, each operation without a path parameter must succeed at least once. A server that
refuses everything would otherwise pass.
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
# Operations that only succeed with values that schemathesis cannot generate: the code of a link, a
# person's sign-in, the id of a session.
OPTIONAL = {"exchangeCode", "signOut", "mintSessionToken"}
ACCESS = re.compile(r"switchboard::access\] \S+ \S+ ([A-Z]+) (/\S*) (\d{3}) ")


class Server:
    """A demo server on a free port, with a new folder.

    Its log is read to the end, so that the server never blocks on a full pipe.
    """

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
            raise SystemExit("the server did not start to listen:\n" + "".join(self.other))

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
    """Signs in with a link and returns the token."""
    command = [binary, "login-link", "--data", folder, "--env", "demo", "--tenant", "northwind-it"]
    link = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    code = link.strip().rpartition("#code=")[2]
    return call(url, "POST", "/auth/exchange", body={"code": code})["data"]["token"]


def guest(url):
    """Creates a session and returns a token for it."""
    session = call(url, "POST", "/chat/sessions", NORTHWIND, {"agent_id": TECHNICIAN})["data"]["id"]
    return call(url, "POST", "/sessions", NORTHWIND, {"session_id": session})["data"]["token"]


def check(url, caller, token, seed, folder):
    """Runs schemathesis as a caller. True if it finds no failure."""
    print(f"\n== {caller}, seed {seed}", flush=True)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{url}/public-api/openapi.json", "--checks", "all", "--seed", str(seed),
    ]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    else:
        # Without a credential, a valid request is refused too.
        command += ["--exclude-checks", "positive_data_acceptance"]
    if caller == ADMINISTRATOR:
        # The operation would end the sign-in of this caller.
        command += ["--exclude-operation-id", "signOut"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, cwd=folder, timeout=600).returncode == 0


def never_succeeded(document, statuses):
    """The operations that never succeeded: those that had to, and the others."""
    must, may = [], []
    for path, item in document["paths"].items():
        route = path.removeprefix("/public-api")
        for method, operation in item.items():
            name = operation["operationId"]
            if not any(statuses[method.upper(), route, status] for status in range(200, 300)):
                (may if name in OPTIONAL or "{" in path else must).append(name)
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
                # Wrong codes of schemathesis lead to a rate limit, so the sign-in comes first.
                signed_in = administrator(binary, data, server.url)
                # The order matters: an administrator revokes keys, and the platform sets limits.
                # The token of a session is created when it is needed, because an earlier caller
                # may delete the session.
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
                failed.append(f"seed {seed}: the server exited with {code}")
            missing, unreached = never_succeeded(document, server.statuses)
            if missing:
                failed.append(f"seed {seed}: these operations never succeeded: {', '.join(missing)}")
            print(f"\nOperations without a success: {', '.join(missing + unreached) or 'none'}")
            print(f"{sum(server.statuses.values())} requests by status:", end=" ")
            by_status = collections.Counter()
            for (_, _, status), count in server.statuses.items():
                by_status[status] += count
            print(", ".join(f"{status}: {count}" for status, count in sorted(by_status.items())))
    for failure in failed:
        print(f"FAILED: {failure}")
    raise SystemExit(1 if failed else 0)


main()
