"""Runs the reverse proxies of docs/deployment.md and of examples/, between a client and a server.

    python3 tests/docs/proxies.py BINARY

The programs (nginx, caddy, apache2, haproxy) and openssl come from the system; a program that is not there is skipped.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "chat.example.com"
SERVER = "127.0.0.1:8080"
RELAY = "neo_sk_demo_relay0000platform"
NORTHWIND = "neo_sk_demo_northwind00000000"
SHARED_BOT = "b07fab1e-c0de-4bee-8ace-facade0fb075"
CONTOSO = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e"
# Where the client comes from, and what it claims to come from.
CLIENT, CLAIMED = "127.0.0.2", "203.0.113.9"
# A heartbeat comes every 15 seconds.
HEARTBEAT_SECONDS = 20
START_SECONDS = 30


class Wrong(Exception):
    """What a proxy does wrong."""


def block(language):
    """The page's block for a proxy."""
    text = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    if len(found) != 1:
        raise Wrong(f"the page has {len(found)} blocks for {language}")
    return found[0]


def replaced(text, *pairs):
    for old, new in pairs:
        if old not in text:
            raise Wrong(f"the block lacks {old!r}")
        text = text.replace(old, new)
    return text


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def nginx(folder, port, server):
    text = replaced(
        block("nginx"), ("443", f"127.0.0.1:{port}"), ("/etc/ssl/", f"{folder}/"), (SERVER, server)
    )
    return run_nginx(folder, text)


def nginx_of_nodes(folder, port, server):
    """The file in front of several nodes. Here, one server is all of them."""
    text = replaced(
        (ROOT / "examples/nginx-nodes.conf").read_text(encoding="utf-8"),
        ("443", f"127.0.0.1:{port}"),
        ("/run/secrets/tls_certificate", f"{folder}/{NAME}.pem"),
        ("/run/secrets/tls_key", f"{folder}/{NAME}.key"),
        ("node-1:8080", server),
        ("node-2:8080", server),
    )
    return run_nginx(folder, text)


def run_nginx(folder, text):
    logs = f"error_log {folder}/error.log;\npid {folder}/nginx.pid;\ndaemon off;\nevents {{}}\n"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(f"{logs}http {{\naccess_log off;\n{temporary}{text}}}\n")
    return ["nginx", "-p", str(folder), "-c", str(config)], {}


def caddy(folder, port, server):
    tls = f"tls {folder}/{NAME}.pem {folder}/{NAME}.key"
    text = replaced(
        block("caddyfile"), (f"{NAME} {{", f"https://{NAME}:{port} {{\n    bind 127.0.0.1\n    {tls}"), (SERVER, server)
    )
    config = folder / "Caddyfile"
    config.write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{text}")
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"], home


def apache(folder, port, server):
    text = replaced(
        block("apache"), ("*:443", f"127.0.0.1:{port}"), ("/etc/ssl/", f"{folder}/"), (SERVER, server)
    )
    # The modules that the page enables, and those of Debian's own that could change a reply.
    modules = ["mpm_event", "authz_core", "filter", "deflate", "mime", "reqtimeout", "setenvif", "socache_shmcb"]
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    modules += re.search(r"a2enmod ([a-z_ ]+)", page).group(1).split()
    modules_at = "/usr/lib/apache2/modules"
    lines = [f"LoadModule {name}_module {modules_at}/mod_{name}.so" for name in modules]
    lines += [f"ServerRoot {folder}", f"PidFile {folder}/apache.pid", f"ErrorLog {folder}/error.log"]
    lines += [f"Listen 127.0.0.1:{port}", f"ServerName {NAME}", "TypesConfig /etc/mime.types"]
    # As Debian's own deflate.conf has them.
    types = "text/html text/plain text/xml text/css text/javascript application/javascript application/json"
    lines += [f"AddOutputFilterByType DEFLATE {types}"]
    if os.geteuid() == 0:
        lines += ["User www-data", "Group www-data"]
    config = folder / "apache.conf"
    config.write_text("\n".join(lines) + "\n" + text)
    return ["apache2", "-DFOREGROUND", "-f", str(config)], {}


def haproxy(folder, port, server):
    both = folder / "both.pem"
    both.write_text((folder / f"{NAME}.pem").read_text() + (folder / f"{NAME}.key").read_text())
    text = replaced(
        block("haproxy"), (":443", f"127.0.0.1:{port}"), (f"/etc/ssl/{NAME}.pem", str(both)), (SERVER, server)
    )
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return ["haproxy", "-db", "-f", str(config)], {}


PROXIES = [
    ("nginx", nginx),
    ("nginx", nginx_of_nodes),
    ("caddy", caddy),
    ("apache2", apache),
    ("haproxy", haproxy),
]


def started(command, environment, folder, is_ready):
    """Starts a program and waits until it is ready."""
    log = open(folder / f"{Path(command[0]).name}.log", "w+", encoding="utf-8")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    end = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > end:
            ended(process)
            log.seek(0)
            raise Wrong(f"{command[0]} does not start:\n{log.read()}")
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
    return process


def ended(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Client:
    """A client on the proxy's far side, from an address of its own."""

    def __init__(self, port, certificate):
        self.port = port
        self.tls = ssl.create_default_context(cafile=certificate)

    def connection(self, seconds=30):
        class Connection(http.client.HTTPSConnection):
            """Speaks to 127.0.0.1, and asks for the proxy's name."""

            def connect(inner):
                plain = socket.create_connection(("127.0.0.1", self.port), seconds, (CLIENT, 0))
                inner.sock = self.tls.wrap_socket(plain, server_hostname=NAME)

        return Connection(NAME, timeout=seconds)

    def call(self, method, path, body=None, key=None, kind="application/json", host=None):
        connection = self.connection()
        headers = {"X-Forwarded-For": CLAIMED, "Host": host or NAME}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if body is not None:
            headers["Content-Type"] = kind
        connection.request(method, path, body if isinstance(body, bytes) else body and json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, text

    @staticmethod
    def path_of(link):
        """The path of a link that leads through the proxy."""
        wanted(link.startswith(f"https://{NAME}/"), f"the link does not begin with the proxy's address: {link}")
        return link.removeprefix(f"https://{NAME}")

    def data(self, method, path, body=None, key=RELAY):
        status, text = self.call(method, f"/public-api{path}", body, key)
        if status >= 300:
            raise Wrong(f"{method} {path} is {status}: {text[:300]!r}")
        return json.loads(text)["data"]


def wanted(is_so, what):
    if not is_so:
        raise Wrong(what)


def check_stream(client):
    """An answer comes at once on a stream that stays open, and the stream outlives its silences."""
    route = {"managed_agent_key": "NEO_SUPPORT", "bot_id": SHARED_BOT, "inbound_tenant_id": CONTOSO}
    session = client.data("POST", "/chat/sessions", route)["id"]
    connection = client.connection(HEARTBEAT_SECONDS)
    connection.request(
        "GET",
        f"/public-api/chat/sessions/{session}/events?follow=true",
        headers={"Authorization": f"Bearer {RELAY}", "Host": NAME, "Accept-Encoding": "gzip, br"},
    )
    answered, failed = threading.Event(), []

    def say():
        try:
            client.data("POST", f"/chat/sessions/{session}/messages", {"message": "How do I connect to the VPN?"})
        except (Wrong, OSError) as error:
            failed.append(error)

    # A proxy may hold the reply's head until the first event, so another thread asks.
    asker = threading.Thread(target=say)
    begin = time.monotonic()
    asker.start()
    try:
        reply = connection.getresponse()
        wanted(reply.status == 200, f"the stream is {reply.status}")
        encoding = reply.getheader("Content-Encoding")
        wanted(encoding is None, f"the stream is compressed: {encoding}")
        while not answered.is_set():
            line = reply.readline()
            wanted(line, "the stream ends")
            if b'"type":"finish"' in line:
                answered.set()
        took = time.monotonic() - begin
        # A proxy that buffers sends the answer with a later heartbeat, if at all.
        wanted(took < 10, f"the answer came {took:.1f} s late")
        while True:
            line = reply.readline()
            wanted(line, "the stream ends while it waits")
            if line.startswith(b":"):
                break
    except TimeoutError:
        raise Wrong("nothing comes on an open stream: the proxy buffers it") from None
    finally:
        asker.join()
        connection.close()
    wanted(not failed, f"the message was not sent: {failed}")
    return f"an answer after {took:.2f} s on an open stream, then a heartbeat"


def check_files(client):
    """A file of the greatest size passes, a greater one does not, and the links lead back through the proxy."""
    session = client.data("POST", "/chat/sessions", {"agent_id": 102}, NORTHWIND)["id"]

    def upload(size):
        uploads = f"/chat/sessions/{session}/attachments/upload-url"
        link = client.data("POST", uploads, {"content_type": "text/plain"}, NORTHWIND)
        content = (b"a line of text\n" * (size // 15 + 1))[:size]
        try:
            status, _ = client.call("PUT", client.path_of(link["upload_url"]), content, kind="text/plain")
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            # A proxy that refuses a body need not read it.
            status = 413
        return link, content, status

    link, content, status = upload(10 << 20)
    wanted(status == 200, f"the upload of {len(content)} bytes is {status}")
    _, _, refused = upload(12 << 20)
    wanted(refused == 413, f"the upload of 12 MiB is {refused}")
    message = {"message": "Here is the log.", "attachments": [{"blob_path": link["blob_path"], "mime": link["mime"]}]}
    client.data("POST", f"/chat/sessions/{session}/messages", message, NORTHWIND)
    stored = client.data("GET", f"/chat/sessions/{session}/messages", key=NORTHWIND)
    urls = [file["url"] for message in stored for file in message.get("attachments") or []]
    wanted(len(urls) == 1, f"the messages have {len(urls)} files")
    status, text = client.call("GET", client.path_of(urls[0]))
    wanted(status == 200 and text == content, f"the file comes back with {status} and {len(text)} bytes")
    return f"a file of {len(content):,} bytes up and down by its links"


def check_address(client):
    """The address in an audit event is the client's, not the proxy's, and not what the client claims."""
    client.data("POST", "/knowledge-articles", {"title": f"Proxy {client.port}", "body": "Text."}, NORTHWIND)
    event = client.data("GET", "/audit-events?page_size=1", key=NORTHWIND)[0]
    address = event.get("remote_address")
    wanted(address == CLIENT, f"an audit event has {address} instead of {CLIENT}")
    return f"the client's address {address}"


def check_metrics(client):
    """Nobody outside reads the metrics."""
    status, text = client.call("GET", "/metrics")
    wanted(status in (403, 404) and b"switchboard_" not in text, f"/metrics is {status}")
    return "no metrics"


def check_page(client):
    """The dashboard comes."""
    status, text = client.call("GET", "/dashboard")
    wanted(status == 200 and b"<html" in text.lower(), f"/dashboard is {status}")
    return "the dashboard"


CHECKS = [check_stream, check_files, check_address, check_metrics, check_page]


def check_proxy(binary, program, configure):
    """Runs the checks of one proxy. Returns the number of those that passed and of those that failed."""
    passed, failed = 0, 0
    with tempfile.TemporaryDirectory(prefix="switchboard-proxy-") as name:
        # Apache's workers are another user.
        folder = Path(name).resolve()
        folder.chmod(0o755)
        server_port, port = free_port(), free_port()
        certificate, key = folder / f"{NAME}.pem", folder / f"{NAME}.key"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
        make += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(make, check=True, capture_output=True)
        processes = []
        try:
            serve = [binary, "--data", str(folder / "data"), "demo", "--listen", f"127.0.0.1:{server_port}"]
            serve += ["--public-url", f"https://{NAME}", "--behind-proxy", "--metrics", "--rate-limit", "0"]
            processes.append(started(serve, {}, folder, lambda: listens(server_port)))
            command, environment = configure(folder, port, f"127.0.0.1:{server_port}")
            path = f"{os.environ['PATH']}:/usr/sbin"
            processes.append(started(command, {**environment, "PATH": path}, folder, lambda: listens(port)))
            client = Client(port, certificate)
            for check in CHECKS:
                try:
                    print(f"ok      {program}: {check(client)}", flush=True)
                    passed += 1
                except (Wrong, OSError) as error:
                    print(f"FAILED  {program}: {check.__name__}: {error}", flush=True)
                    failed += 1
        except Wrong as error:
            print(f"FAILED  {program}: {error}", flush=True)
            failed += 1
        finally:
            for process in reversed(processes):
                ended(process)
    return passed, failed


def main(arguments):
    if len(arguments) != 1:
        print("usage: proxies.py BINARY", file=sys.stderr)
        return 2
    binary = str(Path(arguments[0]).resolve())
    present = [(program, configure) for program, configure in PROXIES if has(program)]
    for program, _ in PROXIES:
        if not has(program):
            print(f"skipped {program}: it is not installed")
    # At once, since most of the time goes by while each waits for a heartbeat.
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(lambda proxy: check_proxy(binary, *proxy), present))
    passed, failed = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 1)
    print(f"{passed} passed, {failed} failed, {len(PROXIES) - len(present)} programs skipped")
    return 1 if failed else 0


def has(program):
    return shutil.which(program) is not None or Path(f"/usr/sbin/{program}").exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
