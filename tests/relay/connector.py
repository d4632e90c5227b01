"""A fake of what a Teams bot talks with: the connector that sends activities and takes replies,
the list of the connector's keys, and the login service that gives the bot its tokens.

It signs with OpenSSL, so a relay's verification is held against another implementation.
"""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

LOGIN_HOST, KEYS_HOST = "login.microsoftonline.com", "login.botframework.com"
SERVICE_HOST = "smba.trafficmanager.net"
HOSTS = (LOGIN_HOST, KEYS_HOST, SERVICE_HOST)
ISSUER = "https://api.botframework.com"
LIMIT_SECONDS = 30
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://invalid.botframework.com",
    "jwks_uri": f"https://{KEYS_HOST}/v1/.well-known/keys",
    "id_token_signing_alg_values_supported": ["RS256"],
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
}


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def openssl(*arguments, data=None):
    done = subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True)
    return done.stdout


class Key:
    """A signing key of the connector, made by OpenSSL."""

    def __init__(self, folder, kid, endorsements):
        self.path, self.kid, self.endorsements = folder / f"{kid}.pem", kid, endorsements
        openssl("genrsa", "-out", self.path, "2048")

    def public(self):
        modulus = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode().strip()
        number = bytes.fromhex(modulus.removeprefix("Modulus="))
        public = {"kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid, "e": "AQAB"}
        return public | {"n": base64url(number), "endorsements": self.endorsements}

    def token(self, claims, **head):
        head = {"typ": "JWT", "alg": "RS256", "kid": self.kid, "x5t": self.kid} | head
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = openssl("dgst", "-sha256", "-sign", self.path, data=signed.encode())
        return f"{signed}.{base64url(signature)}"


class Server(http.server.ThreadingHTTPServer):
    """A server that says nothing of clients that went away: some tests kill them."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Connector:
    """The fake. Replies are kept in the order in which they came, and can be waited for."""

    def __init__(self, folder, app_id, secret, tenant):
        self.app_id, self.secret, self.tenant = app_id, secret, tenant
        self.key = Key(folder, "connector-key", ["msteams", "webchat"])
        self.other_channels_key = Key(folder, "other-channels-key", ["webchat"])
        self.unlisted_key = Key(folder, "unlisted-key", ["msteams"])
        self.certificate = folder / "certificate.pem"
        names = ",".join(f"DNS:{host}" for host in HOSTS)
        files = ("-keyout", folder / "tls.pem", "-out", self.certificate)
        subject = ("-subj", "/CN=fake connector", "-addext", f"subjectAltName={names}")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *files, *subject)
        self.changed = threading.Condition()
        self.replies, self.failures, self.tokens, self.faults = [], [], set(), []
        self.holds = False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "tls.pem")
        self.server = Server(("127.0.0.1", 0), self.handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handler(connector):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # Head and body leave together: else each reply waits for a timer.

            def do_GET(self):
                listed = (connector.key, connector.other_channels_key)
                self.answer(*{
                    (KEYS_HOST, "/v1/.well-known/openidconfiguration"): (200, METADATA),
                    (KEYS_HOST, "/v1/.well-known/keys"): (200, {"keys": [key.public() for key in listed]}),
                }.get((self.headers["Host"], self.path), (404, {})))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if self.headers["Host"] == LOGIN_HOST:
                    self.answer(*connector.login(self.path, dict(urllib.parse.parse_qsl(body))))
                else:
                    self.answer(*connector.take(self.headers, self.path, json.loads(body)))

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(data)

        return Handler

    def login(self, path, form):
        """The login service: a token for the bot that says its secret."""
        asked = [form.get(name) for name in ("grant_type", "client_id", "client_secret")]
        place = path.partition("?")[0]
        known = asked == ["client_credentials", self.app_id, self.secret]
        scopes = form.get("scope", "").split()
        if place != f"/{self.tenant}/oauth2/v2.0/token" or not known or f"{ISSUER}/.default" not in scopes:
            return self.fault(f"a bad token request: {path} {form}")
        token = f"bot-token-{uuid.uuid4()}"
        self.tokens.add(token)
        return 200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token}

    def take(self, headers, path, body):
        """The connector's own endpoint: it takes replies of the bot that shows its token."""
        parts = path.removeprefix("/emea/v3/conversations/").split("/")
        if headers["Host"] != SERVICE_HOST or len(parts) != 3 or parts[1] != "activities":
            return self.fault(f"no such place: {headers['Host']}{path}")
        token = (headers["Authorization"] or "").removeprefix("Bearer ")
        if token not in self.tokens:
            return self.fault(f"a reply without the bot's token: {token!r}")
        place = [urllib.parse.unquote(part) for part in (parts[0], parts[2])]
        with self.changed:
            if self.failures:
                return self.failures.pop(0), {}
            self.replies.append(body | {"path_conversation": place[0], "path_activity": place[1]})
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.holds, LIMIT_SECONDS)
        return 201, {"id": str(uuid.uuid4())}

    def fault(self, what):
        self.faults.append(what)
        return 401, {"error": {"code": "Unauthorized", "message": what}}

    def wait(self, count):
        """Waits for the reply of that number, counted from 1, and returns it."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.replies) >= count, LIMIT_SECONDS):
                raise AssertionError(f"{len(self.replies)} replies came, not {count}")
            return self.replies[count - 1]

    def claims(self, activity):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": self.app_id, "nbf": now - 60, "exp": now + 3600}
        return claims | {"serviceurl": activity["serviceUrl"]}

    def send(self, relay, activity, authorization=None):
        """Posts an activity to a relay, with the connector's token if no other is given: the
        status of the relay's reply."""
        if authorization is None:
            authorization = f"Bearer {self.key.token(self.claims(activity))}"
        headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": authorization}
        data = json.dumps(activity).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(relay, data, headers), timeout=30) as reply:
                return reply.status
        except urllib.error.HTTPError as failure:
            return failure.code
        except OSError:
            return 599  # The relay broke the connection off, as it may if it reads no further.

    def hold(self, holds):
        """While it holds, replies are taken, and their senders wait for the connector's word."""
        with self.changed:
            self.holds = holds
            self.changed.notify_all()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
