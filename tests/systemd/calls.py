"""Holds the system calls that the program makes to those that contrib/switchboard.service allows it.

usage: calls.py SWITCHBOARD_BINARY

A service that makes another one gets EPERM where nobody looks for it. So the server is traced through a start, a turn, a
scrape and a drain, and the commands beside it are; the unit's filter is read from the unit, its sets from systemd.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNIT = ROOT / "contrib" / "switchboard.service"
NORTHWIND = "neo_sk_demo_northwind00000000"
TECHNICIAN = 102
PATIENCE_S = 60
# SQLite gives a new file the owner of the database only where root runs it; the unit's user is another.
OF_ROOT_ALONE = {"fchown"} if os.geteuid() == 0 else set()


def wait_until(what, look):
    """Looks until there is something; what it is."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"waited in vain for {what}")


def calls_of(name):
    """A call, or all of a set that systemd knows by name."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    members = [line.strip() for line in told.stdout.splitlines()[1:]]
    return set().union(*(calls_of(member) for member in members if member and not member.startswith("#")))


def allowed():
    """The unit's SystemCallFilter lines: the first allows, one with a tilde takes away."""
    calls = set()
    for line in UNIT.read_text().splitlines():
        name, _, value = line.partition("=")
        if name != "SystemCallFilter":
            continue
        named = set().union(*(calls_of(word) for word in value.lstrip("~").split()))
        calls = calls - named if value.startswith("~") else calls | named
    assert calls, f"{UNIT} has no filter"
    return calls


def ask(address, path, body=None):
    """A reply's text."""
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode() if body else None)
    request.add_header("Authorization", f"Bearer {NORTHWIND}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return reply.read().decode()


class Traced:
    """One run of the program, with all calls of all its threads counted."""

    def __init__(self, folder, binary, *arguments):
        self.calls = folder / f"calls-{arguments[0]}.txt"
        self.log = folder / f"log-{arguments[0]}.txt"
        # The tracer is the program's child, so that a signal to the process is one to the program.
        line = ["strace", "-D", "-f", "-c", "-U", "name", "-o", self.calls, binary, *arguments]
        with self.log.open("wb") as log:
            environment = os.environ | {"SWITCHBOARD_DATA": str(folder / "data"), "SWITCHBOARD_ENV": "demo"}
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)

    def address(self, before):
        """Where the log says that it listens."""

        def look():
            said = self.log.read_text().partition(f"{before} on http://")[2]
            return said.split()[0].split("/")[0] if " " in said or "/metrics" in said else None

        return wait_until(f"'{before}'", look)

    def ended(self):
        """The names of all its calls."""
        status = self.process.wait(PATIENCE_S)
        assert status == 0, f"exit {status}: {self.log.read_text()}"
        # A line of dashes, names, a line of dashes, the total.
        whole = wait_until("the tracer", lambda: self.calls.read_text() if "total" in self.calls.read_text() else None)
        return set(whole.split()) - {"syscall", "total"} - {word for word in whole.split() if set(word) == {"-"}}


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = Traced(folder, binary, "import", str(ROOT / "fixtures" / "demo.json")).ended()
        served = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "text"]
        server = Traced(folder, binary, "serve", *served)
        metrics, address = server.address("metrics"), server.address("listening")
        for path in ("/health", "/ready", "/whoami", "/agents", "/dashboard", "/docs"):
            ask(address, path)
        session = json.loads(ask(address, "/chat/sessions", {"agent_id": TECHNICIAN}))["data"]["id"]
        ask(address, f"/chat/sessions/{session}/messages", {"message": "How do I connect to the VPN?"})
        assert "[DONE]" in ask(address, f"/chat/sessions/{session}/events?since=0-0")
        assert "switchboard_writable 1" in ask(metrics, "/metrics")
        made |= Traced(folder, binary, "backup", str(folder / "copy.db")).ended()
        server.process.send_signal(signal.SIGTERM)
        made |= server.ended()
        made |= Traced(folder, binary, "check").ended()
        (folder / "data" / "switchboard.db").unlink()
        made |= Traced(folder, binary, "restore", str(folder / "copy.db")).ended()
    forbidden = sorted(made - OF_ROOT_ALONE - allowed())
    if forbidden:
        raise SystemExit(f"the unit's filter forbids calls that the program makes: {', '.join(forbidden)}")
    # Those that every start makes: without them nothing was traced.
    assert {"execve", "futex", "getrandom", "clone3", "fdatasync"} <= made, sorted(made)
    print(f"ok: {len(made)} calls, all of them allowed")


main()
