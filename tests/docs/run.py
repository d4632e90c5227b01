"""Runs the command blocks of README.md and docs/*.md, and compares what they print with what the pages show.

    python3 tests/docs/run.py BINARY [PAGE…]

docs/testing.md explains the marks of the blocks. Exit 1 if a block fails, prints something else, or is not marked.
"""

import fnmatch
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELLIPSIS = "…"
SHELLS = {"", "bash", "console", "shell", "shell-session", "zsh"}
# The pages that need a PostgreSQL server, and what stands for it and for its CA there.
WITH_POSTGRES = {"docs/postgresql.md"}
DATABASE, CA = "db.example.com", "/etc/ssl/db-ca.pem"
# Seconds that a command may take, and that a server may take to print what the page shows.
COMMAND_SECONDS = 90
SERVER_SECONDS = 60
# Pages that are worthless if none of their commands is run.
MUST_RUN = {
    "README.md",
    "docs/configuration.md",
    "docs/deployment.md",
    "docs/operations.md",
    "docs/postgresql.md",
    "docs/quick-start.md",
    "docs/relay.md",
    "docs/security.md",
    "docs/seed-file.md",
    "docs/troubleshooting.md",
}
# Folders in the pages, each of which stands for one in the page's own folder.
PATHS = ["/var/lib/switchboard", "/mnt/backups"]
# Words of commands that need a compiler or another user, and what is run instead.
REPLACED = [
    ("cargo run --release --", "switchboard"),
    ("runuser -u switchboard -- ", ""),
    ("-o switchboard -g switchboard ", ""),
]
# What pages may use of the repository, as a reader who stands at its top.
SHARED = ["contrib", "examples", "fixtures"]
# Addresses in the pages, each of which stands for one with a free port.
ADDRESSES = ["127.0.0.1:8080", "127.0.0.1:9464", "127.0.0.1:3978", "127.0.0.1:8081"]


class Wrong(Exception):
    """A block that is not as its page says."""


class Block:
    """A fenced block, or a comment that sets something up or stops the servers."""

    def __init__(self, page, line, language, marks, text):
        self.page, self.line, self.language, self.text = page, line, language, text
        self.marks = dict(mark.partition("=")[::2] for mark in marks)
        self.output = None

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def runs(self):
        return self.language == "sh" and "norun" not in self.marks


def blocks(page, text):
    """The blocks of a page, in order; `setup` and `stop` are languages of comments."""
    found, lines = [], iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = re.match(r"^( *)(`{3,}|~{3,})\s*(\S*)\s*(.*)$", line)
        comment = re.match(r"^<!-- (setup|stop)(.*)$", line)
        if fence:
            indent, mark, language, marks = fence.groups()
            body = []
            for _, inner in lines:
                if inner.strip() == mark:
                    break
                body.append(inner[len(indent) :] if inner.startswith(indent) else inner)
            else:
                raise Wrong(f"{page}:{number}: the block has no end")
            found.append(Block(page, number, language, marks.split(), "\n".join(body)))
        elif comment:
            body, rest = [], comment.group(2)
            while "-->" not in rest:
                body.append(rest)
                rest = next(lines, (0, "-->"))[1]
            found.append(Block(page, number, comment.group(1), [], "\n".join(body).strip()))
    return found


def paired(found):
    """Gives each command the output that the page shows after it; refuses blocks that nobody would run."""
    last = None
    for block in found:
        if block.language in SHELLS:
            raise Wrong(f"{block}: a block needs a language; commands are 'sh', or 'sh norun'")
        unknown = set(block.marks) - {"norun", "server", "exit", "output", "save", "same"}
        if unknown:
            raise Wrong(f"{block}: nobody knows the mark {unknown.pop()!r}")
        if "output" in block.marks:
            if last is None or not last.runs or last.output is not None:
                raise Wrong(f"{block}: this output belongs to no command that is run")
            last.output = block
        else:
            last = block
    return found


def pattern(shown):
    """A pattern for text with …: within a line any characters, alone on a line any lines."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == ELLIPSIS:
            lines.append(r"(?:.*\n)*?")
        else:
            parts = [re.escape(part) for part in line.rstrip().split(ELLIPSIS)]
            lines.append(".*?".join(parts) + r"[ \t]*\n")
    return re.compile("".join(lines))


def read_json(shown):
    """JSON with …: within a string any characters, for a value any value, in a list or an object any others."""
    out, stack = [], []
    for token in re.findall(r'"(?:\\.|[^"\\])*"|…|[{}\[\]]|[^"…{}\[\]]+', shown):
        if token == ELLIPSIS:
            is_value = "".join(out).rstrip().endswith(":")
            in_object = bool(stack) and stack[-1] == "{" and not is_value
            token = '"…": "…"' if in_object else '"…"'
        elif token in "{[":
            stack.append(token)
        elif token in "}]":
            stack.pop()
        out.append(token)
    return json.loads("".join(out))


def is_like(shown, printed):
    """Whether printed JSON is as shown."""
    if isinstance(shown, str) and ELLIPSIS in shown:
        text = printed if isinstance(printed, str) else json.dumps(printed)
        parts = [re.escape(part) for part in shown.split(ELLIPSIS)]
        return re.fullmatch(".*?".join(parts), text, re.DOTALL) is not None
    if isinstance(shown, dict):
        if not isinstance(printed, dict):
            return False
        named = {key for key in shown if key != ELLIPSIS}
        others = set(printed) - named
        return (
            named <= set(printed)
            and (not others or ELLIPSIS in shown)
            and all(is_like(shown[key], printed[key]) for key in named)
        )
    if isinstance(shown, list):
        if not isinstance(printed, list):
            return False
        if ELLIPSIS in shown:
            at = shown.index(ELLIPSIS)
            before, after = shown[:at], shown[at + 1 :]
            if len(printed) < len(before) + len(after):
                return False
            kept = printed[:at] + (printed[len(printed) - len(after) :] if after else [])
            return is_like(before + after, kept)
        return len(shown) == len(printed) and all(map(is_like, shown, printed))
    return type(shown) is type(printed) and shown == printed


def compare(block, printed, whole=True):
    """Compares what a command printed with what its page shows; `whole` is False for a server, which may go on."""
    shown = block.output
    if shown is None:
        if printed.strip():
            raise Wrong(f"{block}: prints what the page does not show:\n{indented(printed)}")
        return
    if shown.language == "json":
        try:
            expected = read_json(shown.text)
        except ValueError as error:
            raise Wrong(f"{shown}: the JSON cannot be read: {error}") from None
        try:
            same = is_like(expected, json.loads(printed))
        except ValueError:
            same = False
    else:
        text = "".join(line.rstrip() + "\n" for line in printed.splitlines()).rstrip("\n") + "\n"
        expected = pattern(shown.text)
        same = expected.fullmatch(text) if whole else expected.match(text)
    if not same:
        both = f"{indented(shown.text)}\n  the command prints\n{indented(printed)}"
        raise Wrong(f"{shown}: the page shows\n{both}")


def indented(text):
    return "\n".join("    | " + line for line in text.splitlines())


class Server:
    """A command that goes on, in a terminal of its own."""

    def __init__(self, block, command, place):
        self.block, self.place, self.printed = block, place, ""
        self.changed = threading.Condition()
        self.process = place.start(command)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.printed += self.place.shown(line)
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_until_shown(self):
        if self.block.output is None:
            raise Wrong(f"{self.block}: a server needs the output that tells that it is ready")
        end = time.monotonic() + SERVER_SECONDS
        with self.changed:
            while True:
                try:
                    return compare(self.block, self.printed, whole=False)
                except Wrong:
                    left = end - time.monotonic()
                    if left <= 0 or not self.reader.is_alive():
                        raise
                    self.changed.wait(left)

    def stop(self):
        """Ctrl-C: the server must drain and end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(SERVER_SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.block}: Ctrl-C does not end the server") from None
        wanted = int(self.block.marks.get("exit", 0))
        if code != wanted:
            raise Wrong(f"{self.block}: exit {code} instead of {wanted} after Ctrl-C:\n{indented(self.printed[-2000:])}")

    def end(self):
        end_group(self.process)


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Place:
    """Where a page's commands run: a folder, a port, and what one command leaves to the next."""

    def __init__(self, folder, binary):
        self.folder, self.cwd = folder, folder
        tools = folder / ".bin"
        tools.mkdir()
        (tools / "switchboard").symlink_to(binary)
        for name in SHARED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules"))
        self.environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": f"{tools}:{os.environ['PATH']}",
            "TERM": "dumb",
        }
        # What is not ours to use on the machine that runs this, and what stands for it.
        self.ours = [(path, f"{self.folder}{path}") for path in PATHS]
        self.ours += zip(ADDRESSES, free_addresses(len(ADDRESSES)))
        self.environment["SWITCHBOARD_LISTEN"] = dict(self.ours)[ADDRESSES[0]]

    def meant(self, command):
        for shown, meant in REPLACED + self.ours:
            command = command.replace(shown, meant)
        return command

    def shown(self, printed):
        for shown, meant in self.ours:
            printed = printed.replace(meant, shown)
        return printed

    def start(self, command):
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def run(self, block):
        """Runs a block as typed into one shell: what it sets, the next block has."""
        kept = self.folder / ".state"
        script = (
            "set -aeu -o pipefail\n"
            f"trap 'code=$?; {{ pwd; env -0; }} >{kept}; exit $code' EXIT\n"
            f"{self.meant(block.text)}\n"
        )
        process = self.start(script)
        try:
            printed, _ = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise Wrong(f"{block}: takes longer than {COMMAND_SECONDS} s") from None
        finally:
            end_group(process)
        cwd, _, variables = kept.read_text(encoding="utf-8", errors="replace").partition("\n")
        self.cwd = Path(cwd)
        pairs = (pair.partition("=")[::2] for pair in variables.split("\0") if pair)
        self.environment = {name: value for name, value in pairs if name != "_"}
        return process.returncode, self.shown(printed)


class Postgres:
    """A PostgreSQL cluster for one page, which ends with its standard input."""

    def __init__(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise Wrong("PostgreSQL is not installed: apt-get install postgresql")
        self.port = free_addresses(1)[0].rpartition(":")[2]
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        script = (ROOT / "tests/postgres/cluster.sh").read_text(encoding="utf-8")
        self.process = subprocess.Popen(
            [*user, "sh", "-c", script, "sh", str(found[-1].parent), self.port, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = self.process.stdout.readline().strip()
        if not self.folder:
            raise Wrong("the PostgreSQL cluster does not start")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def free_addresses(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return found


class Page:
    """One page, run from its beginning to its end."""

    def __init__(self, name, binary, report):
        self.name, self.binary, self.report = name, binary, report
        self.servers = []

    def run(self):
        try:
            found = paired(blocks(self.name, (ROOT / self.name).read_text(encoding="utf-8")))
        except Wrong as wrong:
            return self.report.fail(str(wrong))
        if self.name in MUST_RUN and not any(block.runs for block in found):
            return self.report.fail(f"{self.name}:1: none of its commands is run")
        with tempfile.TemporaryDirectory(prefix="switchboard-docs-") as folder:
            place = Place(Path(folder).resolve(), self.binary)
            postgres = None
            try:
                if self.name in WITH_POSTGRES:
                    postgres = Postgres()
                    place.ours += [(DATABASE, f"localhost:{postgres.port}"), (CA, f"{postgres.folder}/ca.pem")]
                    place.environment |= {"PGHOST": postgres.folder, "PGPORT": postgres.port}
                for block in found:
                    # What follows a failure fails for its sake: one finding a page.
                    if not self.attempt(block, lambda: self.step(block, place)):
                        return None
                if self.servers:
                    self.attempt(self.servers[-1].block, self.stop)
            finally:
                for server in self.servers:
                    server.end()
                if postgres:
                    postgres.end()
        return None

    def attempt(self, block, action):
        try:
            if action():
                self.report.passed(str(block))
            return True
        except Wrong as wrong:
            self.report.fail(str(wrong))
            return False

    def stop(self):
        while self.servers:
            self.servers[-1].stop()
            self.servers.pop()

    def step(self, block, place):
        """Does what a block stands for; True if that is something to count."""
        if block.language == "stop":
            self.stop()
        elif block.language == "setup":
            code, printed = place.run(block)
            if code != 0:
                raise Wrong(f"{block}: the setup ended with exit {code}:\n{indented(printed)}")
        elif "same" in block.marks:
            path = ROOT / block.marks["same"]
            if not path.is_file() or path.read_text(encoding="utf-8").rstrip("\n") != block.text.rstrip("\n"):
                raise Wrong(f"{block}: is not the same as {block.marks['same']}")
            return True
        elif "save" in block.marks:
            (place.cwd / block.marks["save"]).write_text(block.text + "\n", encoding="utf-8")
        elif not block.runs:
            pass
        elif "server" in block.marks:
            self.servers.append(Server(block, place.meant(block.text), place))
            self.servers[-1].wait_until_shown()
            return True
        else:
            code, printed = place.run(block)
            wanted = int(block.marks.get("exit", 0))
            if code != wanted:
                raise Wrong(f"{block}: exit {code} instead of {wanted}:\n{indented(printed)}")
            compare(block, printed)
            return True
        return False


def anchor(heading):
    """The anchor that a heading gets."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def without_blocks(text):
    return re.sub(r"^( *)(```+|~~~+).*?^ *\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)


def check_links(page, report):
    """Every relative link leads to a file, and to a heading in it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    bad = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, name = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists():
            bad.append(target)
        elif name and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", without_blocks(file.read_text(encoding="utf-8")), re.MULTILINE)
            if name not in map(anchor, headings):
                bad.append(target)
    if bad:
        report.fail(f"{page}: links that lead nowhere: {', '.join(bad)}")
    else:
        report.passed(f"{page}: links")


def check_summary(report):
    """The book has every page, once."""
    listed = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/SUMMARY.md").read_text(encoding="utf-8"))
    there = {page.name for page in (ROOT / "docs").glob("*.md")} - {"SUMMARY.md"}
    wrong = sorted(there.symmetric_difference(listed)) + sorted({name for name in listed if listed.count(name) > 1})
    if wrong:
        report.fail(f"docs/SUMMARY.md: does not agree with the folder: {', '.join(wrong)}")
    else:
        report.passed("docs/SUMMARY.md: every page")


def check_configuration(binary, report):
    """The page on configuration names every flag of every command, its variable and its default, and no other."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}

    def helped(*command):
        done = subprocess.run([binary, *command, "--help"], capture_output=True, text=True, env=environment, check=True)
        return done.stdout

    def commands(text):
        section = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)
        names = re.findall(r"^  (\S+)", section.group(1), re.MULTILINE) if section else []
        return [name for name in names if name != "help"]

    offered = {}
    for command in commands(helped()):
        for leaf in [(command, name) for name in commands(helped(command))] or [(command,)]:
            text = helped(*leaf)
            for item in re.split(r"\n(?=\s+(?:-\w, |    )--)", text)[1:]:
                flag = re.search(r"--[\w-]+", item).group()
                variable = re.search(r"\[env: (\w+)=", item)
                default = re.search(r"\[default: ([^\]]+)\]", item)
                if flag not in ("--help", "--version"):
                    offered.setdefault(flag, (set(), set()))
                    offered[flag][0].update({variable.group(1)} if variable else ())
                    offered[flag][1].update({default.group(1)} if default else ())
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    told = {}
    for row in re.findall(r"^\| `(--.*)$", page, re.MULTILINE):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", "`" + row)]
        for flag in re.findall(r"--[\w-]+", cells[0]):
            told.setdefault(flag, []).append(cells)
    wrong = [f"{flag} is missing" for flag in offered if flag not in told]
    wrong += [f"{flag} is not there any more" for flag in told if flag not in offered]
    for flag, (variables, defaults) in offered.items():
        rows = told.get(flag, [])
        named = {cells[1].strip("`") for cells in rows}
        shown = " ".join(cells[2].replace("`", "") for cells in rows)
        # As in "./switchboard-data; demo: ./switchboard-demo".
        values = {re.sub(r"^\w+: ", "", value) for default in defaults for value in default.split("; ")}
        wrong += [f"{flag} lacks {name}" for name in sorted(variables - named)]
        wrong += [f"{flag} lacks its default {value}" for value in sorted(values) if value not in shown]
    if wrong:
        report.fail(f"docs/configuration.md: {'; '.join(wrong)}")
    else:
        report.passed(f"docs/configuration.md: {len(offered)} flags")


def check_messages(report):
    """The messages that the page on operations quotes are in the source."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    source = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src").rglob("*.rs")))
    source = re.sub(r"\\\n\s*", "", source)
    # What differs from line to line, on the page and in the source.
    source = re.sub(r"\{[\w:.?]*\}", ELLIPSIS, source)
    table = r"^\| (?:log line|symptom) \|.*\n\|[- |]+\n((?:\|.*\n)+)"
    rows = "".join(re.findall(table, page, re.MULTILINE)).splitlines()
    spans = [span for row in rows for span in re.findall("`([^`]+)`", row.split("|")[1])]
    parts = [part.strip() for span in spans for part in span.split(ELLIPSIS) if len(part.strip()) > 3]
    wrong = [part for part in parts if part not in source]
    if wrong or not parts:
        report.fail(f"docs/operations.md: messages that are not in the source: {'; '.join(wrong)}")
    else:
        report.passed(f"docs/operations.md: {len(parts)} parts of messages")


class Report:
    """What passed and what did not."""

    def __init__(self):
        self.done, self.failures = 0, 0

    def passed(self, what):
        self.done += 1
        print(f"ok      {what}", flush=True)

    def fail(self, why):
        self.failures += 1
        print(f"FAILED  {why}", flush=True)


def main(arguments):
    if not arguments:
        print("usage: run.py BINARY [PAGE…]", file=sys.stderr)
        return 2
    binary = Path(arguments[0]).resolve()
    if not os.access(binary, os.X_OK):
        print(f"{binary} is not a program", file=sys.stderr)
        return 2
    pages = ["README.md"] + sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
    wanted = arguments[1:] or ["*"]
    report = Report()
    chosen = [page for page in pages if any(fnmatch.fnmatch(page, f"*{name}") for name in wanted)]
    for page in chosen:
        Page(page, binary, report).run()
        check_links(page, report)
    if wanted == ["*"]:
        for page in sorted(MUST_RUN - set(pages)):
            report.fail(f"{page}: is not there")
        check_summary(report)
    if "docs/configuration.md" in chosen:
        check_configuration(binary, report)
    if "docs/operations.md" in chosen:
        check_messages(report)
    if not chosen:
        report.fail(f"no page is named {' or '.join(wanted)}")
    print(f"{report.done} passed, {report.failures} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
