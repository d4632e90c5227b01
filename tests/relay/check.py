"""Runs the relays of examples/ against a demo server and a fake connector (docs/relay.md).

usage: check.py SWITCHBOARD_BINARY [NAME...]

A NAME is python or typescript. The TypeScript relay must have been built: see examples/relay-ts.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid

import connector

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOOPBACK = ROOT / "tests" / "relay" / "loopback"
RELAYS = {
    "python": [sys.executable, str(ROOT / "examples" / "relay.py")],
    "typescript": [
        "node",
        "--require",
        str(LOOPBACK / "hosts.cjs"),
        str(ROOT / "examples" / "relay-ts" / "dist" / "relay.js"),
    ],
}
# What an activity with a bad token is answered with: the SDK knows 401, and 500 for some.
REFUSES_WITH = {"python": (403,), "typescript": (401, 500)}
LIMIT_SECONDS = 60

PLATFORM_KEY = "neo_sk_demo_relay0000platform"
NORTHWIND_KEY = "neo_sk_demo_northwind00000000"
NORTHWIND, FABRIKAM, PLATFORM = "northwind-it", "fabrikam-support", "relay-platform"
HELP_BOT = "b07fab1e-c0de-4bee-8ace-facade0fb075"
TECHNICIAN_BOT = "b07a1fa0-c0de-4bee-8ace-feed0a1fa001"
SECRET, BOT_TENANT = "a secret of the bot", "ab0de0a1-0000-4c1a-9cab-ab0de000a1fa"
CONTOSO = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e"
TAILSPIN = "0ddba110-face-4fee-9add-1eaf1ed0dd01"
WOODGROVE = "5afe5afe-ba5e-4ca5-8e11-b0a4d0ff1ce5"
NORTHWIND_OWN = "ab0de0a1-fa00-4c1a-9cab-ab0de000a1fa"
STRANGER = "57a46e40-0000-4000-8000-000000000001"

START_AGAIN = "We start again. What can I do for you?"
SORRY = "I cannot answer right now. Please send your message again in a few minutes."
NOT_SET_UP = "This bot is not set up for your organization."


class Program:
    """A program that runs beside this one. Its output goes to a file, so it never waits for it."""

    def __init__(self, folder, name, command, **environment):
        self.log = folder / f"{name}-{uuid.uuid4()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=os.environ | environment,
            )

    def said(self):
        return self.log.read_text()

    def wait_for(self, pattern):
        """Waits for a line of its output, and returns what the pattern's group found in it."""
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            found = re.search(pattern, self.said())
            if found:
                return found[1]
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.said()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        raise AssertionError(f"it never said {pattern}:\n{self.said()}")

    def stop(self):
        """Ends it by SIGTERM: the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_SECONDS)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Front:
    """The address of the server as the relay knows it, and all that can go wrong on the way."""

    def __init__(self):
        self.target, self.open = None, []
        self.expect()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def expect(self, dropped=0, lost=0, together=1):
        """Breaks all connections. Of the connections that follow, the first `dropped` get no reply,
        or the first `lost` requests are carried out and their replies are lost, or the first
        `together` wait for each other."""
        self.dropped, self.lost, self.together, self.waiting = dropped, lost, together, []
        while self.open:
            with contextlib.suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)

    def accept(self):
        with contextlib.suppress(OSError):  # The listener was closed.
            while True:
                near, _ = self.listener.accept()
                self.waiting.append(near)
                if len(self.waiting) >= self.together:
                    waiting, self.waiting, self.together = self.waiting, [], 1
                    for near in waiting:
                        self.begin(near)

    def begin(self, near):
        if self.dropped > 0:
            self.dropped -= 1
            near.recv(65536)
            return near.close()
        far = socket.create_connection(self.target)
        if self.lost > 0:
            self.lost -= 1
            far.sendall(near.recv(65536))
            far.recv(65536)
            far.close()
            return near.close()
        self.open += (near, far)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=self.copy, args=pair, daemon=True).start()

    @staticmethod
    def copy(source, target):
        with contextlib.suppress(OSError):  # One side went away: so does the other.
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class World:
    """A demo server, the fake connector, and one relay between them."""

    def __init__(self, binary, name, folder):
        self.binary, self.folder = binary, folder
        self.command, self.refuses_with = RELAYS[name], REFUSES_WITH[name]
        self.programs = []
        self.front = Front()
        self.start_server()
        self.connector = connector.Connector(folder, HELP_BOT, SECRET, BOT_TENANT)
        self.last_id = 0

    def run(self, name, command, **environment):
        program = Program(self.folder, name, command, **environment)
        self.programs.append(program)
        return program

    def start_server(self, *flags):
        command = [self.binary, "demo", "--data", "data", "--listen", "127.0.0.1:0", *flags]
        self.server = self.run("server", command)
        self.url = self.server.wait_for(r"listening on (http://\S+)")
        host, port = self.url.removeprefix("http://").split(":")
        self.front.target = host, int(port)

    def start_relay(self, state="state", **settings):
        """Starts a relay and waits until it listens."""
        relay = self.run("relay", self.command, **self.environment(state, **settings))
        relay.url = relay.wait_for(r"listening on (http://\S+)")
        return relay

    def environment(self, state, **settings):
        return {
            "SWITCHBOARD_URL": self.front.url,
            "SWITCHBOARD_KEY": PLATFORM_KEY,
            "MicrosoftAppId": HELP_BOT,
            "MicrosoftAppPassword": SECRET,
            "MicrosoftAppTenantId": BOT_TENANT,
            "RELAY_LISTEN": "127.0.0.1:0",
            "RELAY_STATE": str(self.folder / state),
            "FAKE_HOSTS": ",".join(connector.HOSTS),
            "FAKE_PORT": str(self.connector.port),
            "SSL_CERT_FILE": str(self.connector.certificate),
            "NODE_EXTRA_CA_CERTS": str(self.connector.certificate),
            "PYTHONPATH": str(LOOPBACK),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        } | settings

    def call(self, method, path, body=None, key=PLATFORM_KEY):
        """Calls Switchboard: what it replies, a refusal too."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}/public-api{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=LIMIT_SECONDS) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)

    def sessions(self):
        """All sessions that the relay made, oldest first."""
        found = []
        for client in (NORTHWIND, FABRIKAM, PLATFORM):
            path = f"/chat/sessions?client_id={client}&archived=all&page_size=200"
            found += self.call("GET", path)["data"]
        return sorted(found, key=lambda session: session["id"])

    def said_in(self, session):
        """The texts of a session, as (role, text)."""
        messages = self.call("GET", f"/chat/sessions/{session['id']}/messages")["data"]
        return [(message["role"], message["content"]) for message in messages]

    def refusal(self, tenant):
        """What Switchboard tells people of that M365 tenant, who cannot be answered."""
        body = {"managed_agent_key": "NEO_SUPPORT", "bot_id": HELP_BOT, "inbound_tenant_id": tenant}
        return self.call("POST", "/chat/sessions/resolve", body)["error"]

    def activity(self, kind, tenant, conversation, bot=HELP_BOT, **more):
        """An activity as Teams sends it from somebody's own chat with the bot."""
        self.last_id += 1
        person = {"id": f"29:1-{tenant}-{conversation}", "aadObjectId": str(uuid.uuid4())}
        return {
            "type": kind,
            "id": str(1_795_972_050_000 + self.last_id),
            "timestamp": "2026-11-29T17:07:30.795Z",
            "localTimestamp": "2026-11-29T17:07:30.795+00:00",
            "localTimezone": "Europe/London",
            "channelId": "msteams",
            "serviceUrl": f"https://{connector.SERVICE_HOST}/emea/",
            "from": person | {"name": "Ada Park"},
            "conversation": {"conversationType": "personal", "tenantId": tenant, "id": conversation},
            "recipient": {"id": f"28:{bot}", "name": "Helper"},
            "channelData": {"tenant": {"id": tenant}},
            "locale": "en-GB",
        } | more

    def message(self, text, tenant=CONTOSO, conversation="a:1contoso", **more):
        country = {"locale": "en-GB", "country": "GB", "platform": "Web", "type": "clientInfo"}
        html = [{"contentType": "text/html", "content": f"<p>{text}</p>"}]
        written = {"text": text, "textFormat": "plain", "entities": [country], "attachments": html}
        return self.activity("message", tenant, conversation, **(written | more))

    def close(self):
        for program in self.programs:
            program.kill()
        self.front.listener.close()
        self.connector.close()


def assert_equal(found, expected):
    if found != expected:
        raise AssertionError(f"\n   found: {found!r}\nexpected: {expected!r}")


class Steps:
    """What the checks are made of."""

    def __init__(self, world):
        self.world, self.connector = world, world.connector
        self.relay = None
        # The replies that the checks have met. In the end there must be no others.
        self.met = 0

    def send(self, activity):
        assert_equal(self.connector.send(self.relay.url, activity), 200)

    def reply(self, activity):
        """The text of the next reply, which must be the reply to this activity."""
        self.met += 1
        reply = self.connector.wait(self.met)
        shape = {
            "path_conversation": activity["conversation"]["id"],
            "path_activity": activity["id"],
            "type": "message",
            "textFormat": "markdown",
            "replyToId": activity["id"],
            "from": activity["recipient"]["id"],
            "recipient": activity["from"]["id"],
        }
        people = {name: reply[name]["id"] for name in ("from", "recipient")}
        assert_equal({name: (reply | people)[name] for name in shape}, shape)
        return reply["text"]

    def exchange(self, activity):
        self.send(activity)
        return self.reply(activity)

    def ends(self, *arguments, **settings):
        """Runs a relay that must not start: its status and its last line."""
        environment = self.world.environment("no-state", **settings)
        program = self.world.run("relay", [*self.world.command, *arguments], **environment)
        status = program.process.wait(LIMIT_SECONDS)
        return status, program.said().strip().splitlines()[-1]

    def link(self, company, tenant):
        path = f"/end-companies/{company}"
        linked = self.world.call("PUT", path, {"tenant_id": tenant}, NORTHWIND_KEY)["data"]
        assert_equal(linked["tenant_id"], tenant)


class Checks(Steps):
    """What must hold of a relay. The checks run in this order, with one relay for most of them."""

    def an_unknown_key_ends_the_start_with_switchboards_own_words(self):
        wrong = "neo_sk_demo_nobodyhasthiskey"
        said = self.world.call("GET", "/whoami", key=wrong)["error"]
        expected = f"relay: {self.world.front.url}/public-api: {said['code']}: {said['message']}"
        assert_equal(self.ends(SWITCHBOARD_KEY=wrong), (1, expected))
        assert_equal(said["code"], "unauthorized")

    def a_key_that_is_not_a_platform_key_ends_the_start(self):
        why = "the key of northwind-it is not a platform key"
        expected = f"relay: {self.world.front.url}/public-api: {why}"
        assert_equal(self.ends(SWITCHBOARD_KEY=NORTHWIND_KEY), (1, expected))

    def a_server_that_is_not_there_ends_the_start(self):
        self.world.front.expect(dropped=1)
        status, line = self.ends()
        expected = f"relay: {self.world.front.url}/public-api: "
        assert_equal((status, line.startswith(expected)), (1, True))
        assert_equal(self.world.front.dropped, 0)

    def without_the_bots_id_it_does_not_start(self):
        assert_equal(self.ends(MicrosoftAppId=""), (1, "relay: MicrosoftAppId is not set"))

    def without_the_bots_secret_it_does_not_listen_beyond_this_machine(self):
        status, line = self.ends(MicrosoftAppPassword="", RELAY_LISTEN="0.0.0.0:0")
        assert_equal(status, 1)
        assert_equal(line, "relay: so it listens on 127.0.0.1 only; --unverified listens elsewhere")

    def a_first_message_opens_a_white_label_session_and_the_answer_quotes_the_companys_article(self):
        self.relay = self.world.start_relay()
        asked = self.world.message("I cannot sign in to the Ledger")
        text = self.exchange(asked)
        [session] = self.world.sessions()
        assert_equal(session["resolution"]["rule"], "white_label_install")
        found = [session[name] for name in ("client_id", "end_company_id", "agent_id", "channel")]
        assert_equal(found, [NORTHWIND, "1001", 101, "TEAMS"])
        assert_equal(self.world.said_in(session), [("user", asked["text"]), ("assistant", text)])
        assert_equal(text.startswith("This is what “Contoso Ledger: sign in"), True)
        self.contoso, self.first_message = session, asked

    def a_retried_message_makes_no_second_session_turn_or_reply(self):
        for _ in range(3):
            self.send(self.first_message)
        asked = self.world.message("How do I connect to the VPN?")
        text = self.exchange(asked)
        assert_equal([session["id"] for session in self.world.sessions()], [self.contoso["id"]])
        said = self.world.said_in(self.contoso)
        assert_equal(said[0], ("user", self.first_message["text"]))
        assert_equal(said[2:], [("user", asked["text"]), ("assistant", text)])

    def an_activity_that_arrives_twice_at_once_is_answered_once(self):
        before = len(self.world.sessions())
        asked = self.world.message("My printer does not print", conversation="a:1twice")
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(self.connector.send, [self.relay.url] * 6, [asked] * 6))
        assert_equal(statuses, [200] * 6)
        text = self.reply(asked)
        [session] = self.world.sessions()[before:]
        assert_equal(self.world.said_in(session), [("user", asked["text"]), ("assistant", text)])

    def two_first_messages_at_once_share_a_session(self):
        before = len(self.world.sessions())
        words = ("How do I connect to the VPN?", "I have a new phone")
        asked = [self.world.message(text, conversation="a:1both") for text in words]
        # Neither session is there before both are asked for.
        self.world.front.expect(together=2)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(self.send, asked))
        self.met += 2
        self.connector.wait(self.met)
        [session] = self.world.sessions()[before:]
        said = self.world.said_in(session)
        assert_equal(sorted(text for role, text in said if role == "user"), sorted(words))
        assert_equal([role for role, _ in said].count("assistant"), 2)

    def two_m365_tenants_do_not_see_each_others_answers_not_even_under_one_conversation_id(self):
        ledger, card = "I cannot sign in to the Ledger", "The card reader does not read my card"
        same = {"conversation": "a:1same"}
        contoso = self.exchange(self.world.message(ledger, CONTOSO, **same))
        woodgrove = self.exchange(self.world.message(card, WOODGROVE, **same))
        assert_equal("Contoso Ledger" in contoso, True)
        assert_equal("Woodgrove Bank: Teller Desk" in woodgrove, True)
        unknown = "I don't know: none of the articles that I can read answers this."
        crossed = self.exchange(self.world.message(card, CONTOSO, **same))
        assert_equal(crossed.startswith(unknown), True)
        crossed = self.exchange(self.world.message(ledger, WOODGROVE, **same))
        assert_equal(crossed.startswith(unknown), True)
        companies = [session["end_company_id"] for session in self.world.sessions()[-2:]]
        assert_equal(companies, ["1001", "WOOD-01"])

    def an_unmapped_m365_tenant_is_told_what_to_link_and_answered_once_it_is_linked(self):
        before = len(self.world.sessions())
        ask = lambda: self.world.message("My printer does not print", TAILSPIN, "a:1tailspin")
        text = self.exchange(ask())
        assert_equal(text, self.world.refusal(TAILSPIN)["message"])
        assert_equal((TAILSPIN in text, "Northwind IT" in text, "Tailspin" in text), (True, True, False))
        assert_equal(len(self.world.sessions()), before)
        [refused] = self.world.call("GET", "/end-companies/unlinked-tenants", key=NORTHWIND_KEY)["data"]
        assert_equal((refused["inbound_tenant_id"], refused["attempts"]), (TAILSPIN, 1))
        self.link("1002", TAILSPIN)
        assert_equal("The printer does not print" in self.exchange(ask()), True)
        assert_equal(self.world.sessions()[-1]["end_company_id"], "1002")

    def a_link_that_moves_to_another_company_gives_the_conversation_a_session_of_that_company(self):
        self.link("1001", None)
        asked = self.world.message("I cannot sign in to the Ledger")
        assert_equal(self.exchange(asked), self.world.refusal(CONTOSO)["message"])
        self.link("1002", CONTOSO)
        text = self.exchange(self.world.message("I cannot sign in to the Ledger"))
        assert_equal("Contoso Ledger" in text, False)
        assert_equal(self.world.sessions()[-1]["end_company_id"], "1002")
        self.link("1002", TAILSPIN)
        self.link("1001", CONTOSO)
        text = self.exchange(self.world.message("I cannot sign in to the Ledger"))
        assert_equal("Contoso Ledger" in text, True)
        assert_equal(self.world.sessions()[-1]["end_company_id"], "1001")

    def a_disconnected_channel_is_told_and_works_again_once_it_is_connected(self):
        channels = self.world.call("GET", "/channels", key=NORTHWIND_KEY)["data"]
        [channel] = [each["id"] for each in channels if each["bot_id"] == HELP_BOT]
        path, ask = f"/channels/{channel}", lambda: self.world.message("How do I connect to the VPN?")
        self.world.call("PATCH", path, {"status": "DISCONNECTED"}, NORTHWIND_KEY)
        refusal = self.world.refusal(CONTOSO)
        assert_equal(refusal["code"], "channel_disconnected")
        assert_equal(self.exchange(ask()), refusal["message"])
        self.world.call("PATCH", path, {"status": "ACTIVE"}, NORTHWIND_KEY)
        assert_equal("Connect to the VPN" in self.exchange(ask()), True)

    def reset_archives_the_session_and_opens_another_and_a_retried_reset_does_nothing(self):
        before = self.world.sessions()
        reset = self.world.message("/reset")
        assert_equal(self.exchange(reset), START_AGAIN)
        asked = self.world.message("How do I connect to the VPN?")
        text = self.exchange(asked)
        self.send(reset)
        after = self.exchange(self.world.message("Once more: the VPN"))
        sessions = self.world.sessions()
        assert_equal(len(sessions), len(before) + 1)
        said = [("user", asked["text"]), ("assistant", text)]
        said += [("user", "Once more: the VPN"), ("assistant", after)]
        assert_equal(self.world.said_in(sessions[-1]), said)
        archived = [session["id"] for session in sessions if session["archived_at"]]
        assert_equal(archived, [before[-1]["id"]])
        self.fresh = sessions[-1]

    def a_session_that_somebody_archived_gives_way_to_a_new_one(self):
        path = f"/chat/sessions/{self.fresh['id']}"
        self.world.call("PATCH", path, {"archived": True})
        before = len(self.world.sessions())
        self.exchange(self.world.message("How do I connect to the VPN?"))
        [self.fresh] = self.world.sessions()[before:]

    def an_install_is_welcomed_once_though_teams_reports_it_twice(self):
        event = {"bot_id": HELP_BOT, "end_client_tenant_id": CONTOSO}
        welcome = self.world.call("POST", "/channels/install-events", event)["data"]["welcome_message"]
        place = (CONTOSO, "a:1installed")
        bot, person = {"id": f"28:{HELP_BOT}"}, {"id": "29:1somebody"}
        update = self.world.activity("conversationUpdate", *place, membersAdded=[person, bot])
        install = self.world.activity("installationUpdate", *place, action="add")
        assert_equal(self.exchange(update), welcome)
        for activity in (install, update, self.world.activity("typing", *place)):
            self.send(activity)
        joined = self.world.activity("conversationUpdate", *place, membersAdded=[person])
        stranger = self.world.activity("installationUpdate", STRANGER, "a:1x", action="add")
        removed = self.world.activity("installationUpdate", CONTOSO, "a:1gone", action="remove")
        for activity in (joined, stranger, removed):
            self.send(activity)

    def a_mention_of_the_bot_is_left_out_and_a_message_without_text_is_told(self):
        asked = self.world.message("<at>Northwind helper</at> How do I connect to the VPN?\n")
        self.exchange(asked)
        users = [text for role, text in self.world.said_in(self.fresh) if role == "user"]
        assert_equal(users[-1], "How do I connect to the VPN?")
        picture = self.world.message("", attachments=[{"contentType": "image/png"}])
        assert_equal(self.exchange(picture), "I can read text only.")

    def an_m365_tenant_that_nobody_knows_gets_no_agent(self):
        asked = self.world.message("Which clients do you have?", STRANGER, "a:1stranger")
        assert_equal(self.exchange(asked), NOT_SET_UP)

    def only_the_connectors_own_token_is_taken(self):
        activity = self.world.message("Who am I?", conversation="a:1forged")
        claims, key = self.connector.claims(activity), self.connector.key
        good, now = key.token(claims), int(time.time())
        head, payload, signature = good.split(".")
        bent = signature[:-8] + ("A" if signature[-8] != "A" else "B") + signature[-7:]
        none = connector.base64url(b'{"alg":"none","kid":"connector-key"}')
        forged = {
            "none": "",
            "no token": "Bearer",
            "another scheme": f"Basic {good}",
            "no signature": f"Bearer {none}.{payload}.",
            "a bent signature": f"Bearer {head}.{payload}.{bent}",
            "another algorithm": f"Bearer {key.token(claims, alg='HS256')}",
            "another bot's": f"Bearer {key.token(claims | {'aud': TECHNICIAN_BOT})}",
            "another issuer's": f"Bearer {key.token(claims | {'iss': 'https://api.example'})}",
            "expired": f"Bearer {key.token(claims | {'exp': now - 400})}",
            "not yet valid": f"Bearer {key.token(claims | {'nbf': now + 400})}",
            "for another address": f"Bearer {key.token(claims | {'serviceurl': 'https://b.example/'})}",
            "by an unlisted key": f"Bearer {self.connector.unlisted_key.token(claims)}",
            "by another's key": f"Bearer {self.connector.unlisted_key.token(claims, kid=key.kid)}",
            "of another channel": f"Bearer {self.connector.other_channels_key.token(claims)}",
        }
        before = len(self.world.sessions())
        for name, authorization in forged.items():
            status = self.connector.send(self.relay.url, activity, authorization)
            assert_equal((name, status in self.world.refuses_with), (name, True))
        assert_equal(len(self.world.sessions()), before)
        leeway = claims | {"exp": now - 200, "nbf": now - 4000}
        status = self.connector.send(self.relay.url, activity, f"Bearer {key.token(leeway)}")
        assert_equal(status, 200)
        self.reply(activity)

    def what_is_no_activity_is_refused(self):
        for body in ([], {"type": "message"}, "text", {"text": "x" * (2 << 20)}):
            claims = self.connector.claims(self.world.message(""))
            token = f"Bearer {self.connector.key.token(claims)}"
            status = self.connector.send(self.relay.url, body, token)
            assert_equal((str(body)[:40], status >= 400), (str(body)[:40], True))

    def a_connector_that_is_busy_is_asked_again(self):
        for status in (503, 429):
            self.connector.failures.append(status)
            self.exchange(self.world.message("How do I connect to the VPN?"))
            assert_equal(self.connector.failures, [])

    def a_conversation_goes_on_in_its_session_after_a_restart(self):
        before = len(self.world.sessions())
        assert_equal(self.relay.stop(), 0)
        self.relay = self.world.start_relay()
        self.exchange(self.world.message("How do I connect to the VPN?"))
        assert_equal(len(self.world.sessions()), before)

    def a_message_is_answered_though_the_relay_is_killed_while_it_replies(self):
        # A stop waits for all that was under way, so that only this message is.
        self.relay.stop()
        self.relay = self.world.start_relay()
        asked = self.world.message("The printer does not print", conversation="a:1killed")
        self.connector.hold(True)
        text = self.exchange(asked)
        self.relay.kill()
        self.connector.hold(False)
        self.relay = self.world.start_relay()
        assert_equal(self.reply(asked), text)
        said = self.world.said_in(self.world.sessions()[-1])
        assert_equal(said, [("user", asked["text"]), ("assistant", text)])

    def a_server_that_is_away_for_a_moment_is_waited_for(self):
        self.world.front.expect(dropped=1)
        text = self.exchange(self.world.message("How do I connect to the VPN?"))
        assert_equal(("Connect to the VPN" in text, self.world.front.dropped), (True, 0))

    def a_server_that_stays_away_is_told_to_the_person(self):
        self.world.front.expect(dropped=sys.maxsize)
        assert_equal(self.exchange(self.world.message("How do I connect to the VPN?")), SORRY)
        self.world.front.expect()

    def a_reply_of_the_server_that_is_lost_makes_no_second_session_or_turn(self):
        before, said = len(self.world.sessions()), []
        for text in ("The printer does not print", "How do I connect to the VPN?"):
            asked = self.world.message(text, conversation="a:1lost")
            self.world.front.expect(lost=1)
            said += [("user", text), ("assistant", self.exchange(asked))]
            assert_equal(self.world.front.lost, 0)
        [session] = self.world.sessions()[before:]
        assert_equal(self.world.said_in(session), said)
        self.world.front.expect(lost=1)
        assert_equal(self.exchange(self.world.message("/reset", conversation="a:1lost")), START_AGAIN)
        archived = [bool(each["archived_at"]) for each in self.world.sessions()[before:]]
        assert_equal((archived, self.world.front.lost), ([True, False], 0))

    def an_answer_that_fails_is_told_in_the_servers_words(self):
        assert_equal(self.world.server.stop(), 0)
        model = ("--model-url", "http://127.0.0.1:1/v1", "--model-fast", "m", "--model-smart", "m")
        self.world.start_server(*model)
        text = self.exchange(self.world.message("Is anybody there?", conversation="a:1failed"))
        session = self.world.sessions()[-1]
        [asked] = self.world.call("GET", f"/chat/sessions/{session['id']}/messages")["data"]
        path = f"/chat/sessions/{session['id']}/turns/{asked['chat_turn_id']}"
        turn = self.world.call("GET", path)["data"]
        assert_equal((turn["status"], turn["error"]["message"]), ("FAILED", text))
        assert_equal(self.world.server.stop(), 0)
        self.world.start_server()

    def nothing_else_was_said_and_a_stop_ends_with_0(self):
        assert_equal(self.relay.stop(), 0)
        assert_equal([reply["text"] for reply in self.connector.replies[self.met :]], [])
        assert_equal(self.connector.faults, [])

    def only_the_msps_own_people_reach_its_internal_agent(self):
        self.connector.app_id = TECHNICIAN_BOT
        settings = {"MicrosoftAppId": TECHNICIAN_BOT, "SWITCHBOARD_MSP": NORTHWIND}
        self.relay = self.world.start_relay("technicians", **settings)
        place = {"conversation": "a:1technician", "bot": TECHNICIAN_BOT}
        ask = lambda tenant: self.world.message("Restore a mailbox from backup", tenant, **place)
        text = self.exchange(ask(NORTHWIND_OWN))
        assert_equal("Runbook: restore files or a mailbox from backup" in text, True)
        assert_equal(self.world.sessions()[-1]["resolution"]["rule"], "bot_channel")
        assert_equal(self.exchange(ask(STRANGER)), NOT_SET_UP)
        assert_equal(self.exchange(ask(CONTOSO)), NOT_SET_UP)
        assert_equal(self.relay.stop(), 0)
        self.connector.app_id = HELP_BOT

    def without_the_bots_secret_it_works_on_this_machine_and_says_so(self):
        self.connector.tokens.add("")
        self.relay = self.world.start_relay("unverified", MicrosoftAppPassword="")
        said = "relay: WITHOUT MicrosoftAppPassword ANYBODY CAN SPEAK FOR ANYBODY"
        assert_equal(said in self.relay.said(), True)
        asked = self.world.message("How do I connect to the VPN?", conversation="a:1open")
        assert_equal(self.connector.send(self.relay.url, asked, ""), 200)
        assert_equal("Connect to the VPN" in self.reply(asked), True)
        assert_equal(self.relay.stop(), 0)
        assert_equal(len(self.connector.replies), self.met)


def run(binary, name):
    """Runs all checks of one relay: how many held, and how many failed."""
    checks = [check for check in vars(Checks) if not check.startswith("_")]
    with tempfile.TemporaryDirectory(prefix="switchboard-relay-") as folder:
        world = World(binary, name, pathlib.Path(folder))
        try:
            made, passed = Checks(world), 0
            for check in checks:
                title = f"{name}: {check.replace('_', ' ')}"
                try:
                    getattr(made, check)()
                except Exception:
                    # The checks that follow build on this one: they are not run, and fail too.
                    print(f"FAILED: {title}\n{traceback.format_exc()}")
                    print("what the connector refused:", world.connector.faults)
                    for program in world.programs:
                        print(f"--- {program.log.name}\n{program.said()[-3000:]}")
                    return passed, len(checks) - passed
                print(f"ok: {title}")
                passed += 1
            return passed, 0
        finally:
            world.close()


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    binary, names = str(pathlib.Path(sys.argv[1]).resolve()), sys.argv[2:] or list(RELAYS)
    results = [run(binary, name) for name in names]
    passed, failed = (sum(column) for column in zip(*results))
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
