"""Compares the system calls of the program with those that contrib/switchboard.service allows.

usage: calls.py SWITCHBOARD_BINARY

A system call outside the unit's filter fails with EPERM, possibly in code that few tests reach. The
server is therefore traced during a start, a turn, a scrape of its metrics and a drain, and so are
the other commands. The filter is read from the unit. Its sets of calls are read from systemd.
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
TIMEOUT_S = 60
# SQLite sets the owner of a new file only if root runs the program. The unit has another user.
ROOT_ONLY = {"fchown"} if os.geteuid() == 0 else set()


def wait_until(what, look):
    """Calls `look` until it returns a true value, and returns that value."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"timed out waiting for {what}")


def calls_of(name):
    """The calls that a name of the filter stands for: one call, or a set of systemd."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    members = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return set().union(*(calls_of(member) for member in members if member and not member.startswith("#")))


def allowed():
    """The calls that the unit's SystemCallFilter lines allow. A line with a tilde removes calls."""
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
    """The body of a response."""
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode() if body else None)
    request.add_header("Authorization", f"Bearer {NORTHWIND}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        return reply.read().decode()


class Traced:
    """A run of the program under strace, which counts the calls of all threads."""

    def __init__(self, folder, binary, *arguments):
        self.calls = folder / f"calls-{arguments[0]}.txt"
        self.log = folder / f"log-{arguments[0]}.txt"
        # With -D, strace is a child of the program, so that a signal reaches the program.
        line = ["strace", "-D", "-f", "-c", "-U", "name", "-o", self.calls, binary, *arguments]
        with self.log.open("wb") as log:
            environment = os.environ | {"SWITCHBOARD_DATA": str(folder / "data"), "SWITCHBOARD_ENV": "demo"}
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=environment)

    def address(self, before):
        """The address that the log names after `before`."""

        def look():
            rest = self.log.read_text().partition(f"{before} on http://")[2]
            return rest.split()[0].split("/")[0] if " " in rest or "/metrics" in rest else None

        return wait_until(f"'{before}'", look)

    def finish(self):
        """Waits for the end of the run. Returns the names of all calls."""
        status = self.process.wait(TIMEOUT_S)
        assert status == 0, f"exit {status}: {self.log.read_text()}"
        # The table has a header, a line of dashes, the names, a line of dashes and the total.
        table = wait_until("the tracer", lambda: self.calls.read_text() if "total" in self.calls.read_text() else None)
        return set(table.split()) - {"syscall", "total"} - {word for word in table.split() if set(word) == {"-"}}


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        made = Traced(folder, binary, "import", str(ROOT / "fixtures" / "demo.json")).finish()
        options = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "text"]
        server = Traced(folder, binary, "serve", *options)
        metrics, address = server.address("metrics"), server.address("listening")
        for path in ("/health", "/ready", "/whoami", "/agents", "/dashboard", "/docs"):
            ask(address, path)
        session = json.loads(ask(address, "/chat/sessions", {"agent_id": TECHNICIAN}))["data"]["id"]
        ask(address, f"/chat/sessions/{session}/messages", {"message": "How do I connect to the VPN?"})
        assert "[DONE]" in ask(address, f"/chat/sessions/{session}/events?since=0-0")
        assert "switchboard_writable 1" in ask(metrics, "/metrics")
        made |= Traced(folder, binary, "backup", str(folder / "copy.db")).finish()
        server.process.send_signal(signal.SIGTERM)
        made |= server.finish()
        made |= Traced(folder, binary, "check").finish()
        (folder / "data" / "switchboard.db").unlink()
        made |= Traced(folder, binary, "restore", str(folder / "copy.db")).finish()
    forbidden = sorted(made - ROOT_ONLY - allowed())
    if forbidden:
        raise SystemExit(f"the unit's filter forbids calls that the program makes: {', '.join(forbidden)}")
    # Every start makes these calls. If they are missing, the trace is empty.
    assert {"execve", "futex", "getrandom", "clone3", "fdatasync"} <= made, sorted(made)
    print(f"ok: the unit allows all {len(made)} system calls that the program makes")


main()
