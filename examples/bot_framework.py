"""What a bot needs of the Bot Framework, with Python's standard library only: tokens of incoming
activities are verified, and replies are sent. Microsoft's SDK does the same and more."""

import base64
import functools
import hashlib
import http.server
import json
import os
import signal
import sys
import threading
import time
from urllib import parse, request

APP_ID = os.environ.get("MicrosoftAppId", "")
SECRET = os.environ.get("MicrosoftAppPassword", "")
TENANT = os.environ.get("MicrosoftAppTenantId", "botframework.com")
LISTEN = os.environ.get("RELAY_LISTEN", "127.0.0.1:3978")
ISSUER = "https://api.botframework.com"
OPENID = "https://login.botframework.com/v1/.well-known/openidconfiguration"
LOGIN = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
# What precedes a SHA-256 hash in an RSA signature (RFC 8017, section 9.2, note 1).
SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
LEEWAY_SECONDS = 300
MAX_BODY_BYTES = 1 << 20
MALFORMED = (AttributeError, LookupError, TypeError, ValueError)


class Unverified(Exception):
    """An activity does not carry a token of the connector."""


@functools.lru_cache(1)
def signing_keys(hour):
    """The connector's public keys by id. They are fetched once in each `hour`."""
    with request.urlopen(OPENID, timeout=10) as reply:
        address = json.load(reply)["jwks_uri"]
    with request.urlopen(address, timeout=10) as reply:
        return {key["kid"]: key for key in json.load(reply)["keys"]}


@functools.lru_cache(1)
def access_token(half_hour):
    """The bot's token for the connector. It lives an hour; one is fetched in each `half_hour`."""
    form = {"grant_type": "client_credentials", "client_id": APP_ID, "client_secret": SECRET}
    body = parse.urlencode(form | {"scope": f"{ISSUER}/.default"}).encode()
    with request.urlopen(LOGIN, body, timeout=10) as reply:
        return json.load(reply)["access_token"]


def decoded(text):
    return base64.urlsafe_b64decode(text + "==")


def is_signed(signed, signature, key):
    """Whether an RS256 signature is right. The whole padded message is compared, so that nothing
    has to be parsed out of it (RFC 8017, section 8.2.2)."""
    modulus, exponent = (int.from_bytes(decoded(key[name]), "big") for name in ("n", "e"))
    size = (modulus.bit_length() + 7) // 8
    message = SHA256_PREFIX + hashlib.sha256(signed.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(message) - 3) + b"\x00" + message
    number = int.from_bytes(decoded(signature), "big")
    return number < modulus and pow(number, exponent, modulus).to_bytes(size, "big") == padded


def verify(authorization, activity):
    """Raises Unverified unless the connector signed the token, for this bot and activity."""
    try:
        scheme, token = authorization.split(" ")
        signed, signature = token.rsplit(".", 1)
        head, claims = (json.loads(decoded(part)) for part in signed.split("."))
        key = signing_keys(time.time() // 3600)[head["kid"]]
        checks = {
            "scheme": scheme == "Bearer",
            "algorithm": head["alg"] == "RS256",
            "signature": is_signed(signed, signature, key),
            "issuer": claims["iss"] == ISSUER,
            "audience": claims["aud"] == APP_ID,
            "beginning": claims["nbf"] <= time.time() + LEEWAY_SECONDS,
            "end": claims["exp"] >= time.time() - LEEWAY_SECONDS,
            # The bot's own token goes to this address, so the connector must vouch for it.
            "service URL": claims["serviceurl"] == activity["serviceUrl"],
            "endorsement": activity["channelId"] in key["endorsements"],
        }
    except MALFORMED as flaw:
        raise Unverified(f"malformed token: {flaw!r}") from None
    wrong = [name for name, holds in checks.items() if not holds]
    if wrong:
        raise Unverified(f"wrong token: {', '.join(wrong)}")


def post(activity, text):
    """Sends `text` into the activity's conversation, as a reply to the activity."""
    names = [parse.quote(one["id"], safe="") for one in (activity["conversation"], activity)]
    url = "{}/v3/conversations/{}/activities/{}".format(activity["serviceUrl"].rstrip("/"), *names)
    reply = {
        "type": "message",
        "text": text,
        "textFormat": "markdown",
        "from": activity["recipient"],
        "recipient": activity["from"],
        "conversation": activity["conversation"],
        "replyToId": activity["id"],
    }
    headers = {"Content-Type": "application/json"}
    if SECRET:
        token = access_token(time.time() // 1800)
        headers["Authorization"] = f"Bearer {token}"
    asked = request.Request(url, json.dumps(reply).encode(), headers, method="POST")
    request.urlopen(asked, timeout=15).close()


def serve(receive):
    """Gives each activity to `receive`, until SIGTERM or Ctrl-C."""
    host, port = LISTEN.split(":")
    if not APP_ID:
        sys.exit("relay: MicrosoftAppId is not set")
    if not SECRET:
        print("relay: WITHOUT MicrosoftAppPassword ANYBODY CAN SPEAK FOR ANYBODY", file=sys.stderr)
        if not host.startswith("127.") and "--unverified" not in sys.argv:
            sys.exit("relay: so it listens on 127.0.0.1 only; --unverified listens elsewhere")

    class Endpoint(http.server.BaseHTTPRequestHandler):
        timeout = 15  # Seconds that a client may pause for.

        def do_POST(self):
            status = 200
            try:
                size = int(self.headers["Content-Length"])
                activity = json.loads(self.rfile.read(max(0, min(size, MAX_BODY_BYTES))))
                if SECRET:
                    verify(self.headers["Authorization"], activity)
                receive(activity)
            except Exception as failure:
                malformed = isinstance(failure, MALFORMED)
                status = 403 if isinstance(failure, Unverified) else 400 if malformed else 503
                print(f"relay: {status}: {failure!r}", file=sys.stderr)
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer((host, int(port)), Endpoint)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"relay: listening on http://{host}:{server.server_port}/api/messages", flush=True)
    server.serve_forever()
    server.server_close()
