#!/usr/bin/env python3
"""A relay between a Microsoft Teams bot and Switchboard, with Python's standard library only.
docs/relay.md explains what it does, and its settings, which are environment variables."""

import hashlib, json, os, re, sqlite3, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from urllib import error, request

from bot_framework import APP_ID, post, serve

SWITCHBOARD = os.environ.get("SWITCHBOARD_URL", "http://127.0.0.1:8080") + "/public-api"
KEY, MSP = os.environ.get("SWITCHBOARD_KEY", ""), os.environ.get("SWITCHBOARD_MSP", "")
# The messages of these refusals are written for the person in the chat.
SHOWN = {"end_company_not_mapped", "channel_disconnected", "stranger"}
# After one of these, a new session may be routed to where the old one no longer goes.
RENEWED = SHOWN | {"session_archived", "not_found", "agent_disabled"}
SORRY = "I cannot answer right now. Please send your message again in a few minutes."

LOCK, POOL = threading.Lock(), ThreadPoolExecutor(64)
DB = sqlite3.connect(os.environ.get("RELAY_STATE", "relay.db"), check_same_thread=False)
DB.executescript("""
    CREATE TABLE IF NOT EXISTS conversations (id TEXT PRIMARY KEY, session TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, activity TEXT, at REAL NOT NULL);
""")


class Refused(Exception):
    def __str__(self):
        return ": ".join(self.args[:2])  # Switchboard's code, and its message.


def stored(sql, *values):
    with LOCK, DB:
        return DB.execute(sql, values).fetchall()


def digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def switchboard(method, path, body=None, **headers):
    headers |= {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    try:
        asked = request.Request(SWITCHBOARD + path, data, headers, method=method)
        with request.urlopen(asked, timeout=75) as reply:
            return json.load(reply)["data"]
    except error.HTTPError as failure:
        refusal = json.load(failure)["error"]
        if refusal["code"] == "duplicate_client_message":
            return refusal["details"]  # An earlier try got these in its reply.
        raise Refused(refusal["code"], refusal["message"], refusal.get("details")) from None


def create(tenant, conversation, reason):
    """Starts a session for a conversation. The same reason, tried again, gets the same session."""
    body = {"managed_agent_key": "NEO_SUPPORT", "bot_id": APP_ID, "inbound_tenant_id": tenant}
    if tenant == OWN_TENANT:  # Nobody else may reach the MSP's internal agents.
        body["client_id"] = MSP
    key = {"Idempotency-Key": digest(conversation, reason, body)}
    try:
        session = switchboard("POST", "/chat/sessions", body, **key)
    except Refused as refusal:
        if refusal.args[0] != "session_archived":
            raise
        return create(tenant, conversation, refusal.args[2]["session_id"])  # It was archived since.
    if session["resolution"]["rule"] == "neo_support" and tenant != OWN_TENANT:
        raise Refused("stranger", "This bot is not set up for your organization.")
    stored("REPLACE INTO conversations VALUES (?, ?)", conversation, session["id"])
    return session["id"]


def ask(activity, tenant, conversation):
    """The answer to a message. Each step, when it is repeated, finds what it did before."""
    text = re.sub(r"<at>.*?</at>", "", activity.get("text") or "").strip()
    if not text:
        return "I can read text only."
    known = stored("SELECT session FROM conversations WHERE id = ?", conversation)
    session = known[0][0] if known else create(tenant, conversation, "first message")
    if text == "/reset":
        if session != create(tenant, conversation, activity["id"]):
            switchboard("POST", f"/chat/sessions/{session}/reset")
        return "We start again. What can I do for you?"
    message = {"message": text, "client_message_id": digest(activity["id"])}
    try:
        turn = switchboard("POST", f"/chat/sessions/{session}/messages", message)
    except Refused as refusal:
        if refusal.args[0] not in RENEWED:
            raise
        session = create(tenant, conversation, session)
        turn = switchboard("POST", f"/chat/sessions/{session}/messages", message)
    path = f"/chat/sessions/{session}/turns/{turn['chat_turn_id']}?wait_seconds=60"
    while not (turn := switchboard("GET", path))["finished_at"]:
        pass
    said, failed = turn["assistant_message"] or {}, turn["error"] or {}
    return "\n\n".join(filter(None, (said.get("content"), failed.get("message"))))


def place(activity):
    """The M365 tenant of an activity, and an id of the conversation that no other tenant has."""
    conversation = activity["conversation"]
    tenant = (activity.get("channelData") or {}).get("tenant") or {"id": conversation["tenantId"]}
    return tenant["id"].lower(), digest(tenant["id"].lower(), conversation["id"])


def reply_to(activity):
    tenant, conversation = place(activity)
    try:
        if activity["type"] == "message":
            return ask(activity, tenant, conversation)
        event = {"bot_id": APP_ID, "end_client_tenant_id": tenant}
        return switchboard("POST", "/channels/install-events", event)["welcome_message"]
    except Refused as refusal:
        if refusal.args[0] in SHOWN:
            return refusal.args[1]
        raise


def work(once, activity):
    """Answers an activity of the inbox. A failure is met by beginning again, and at last told."""
    for pause in (1, 2, 4, 0):
        try:
            if text := reply_to(activity) if pause else SORRY:
                post(activity, text)
            return stored("UPDATE inbox SET activity = NULL WHERE id = ?", once)
        except Exception as failure:
            print(f"relay: {activity['type']} {once[:8]}: {failure}", file=sys.stderr)
            time.sleep(pause)


def receive(activity):
    """Takes an activity into the inbox once. It is answered then, after a crash as well."""
    added = [member["id"] for member in activity.get("membersAdded") or []]
    installed = activity.get("action") == "add" or activity["recipient"]["id"] in added
    if activity["type"] == "message" or installed:
        # Teams reports one install by two activities.
        once = digest(place(activity)[1], "installed" if installed else activity["id"])
        stored("DELETE FROM inbox WHERE at < ?", time.time() - 3600)
        row = once, json.dumps(activity), time.time()
        if stored("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?) RETURNING id", *row):
            POOL.submit(work, once, activity)


if __name__ == "__main__":
    try:
        caller = switchboard("GET", "/whoami")
        OWN_TENANT = switchboard("GET", f"/tenants/{MSP}")["entra_tenant_id"] if MSP else None
    except (Refused, OSError) as failure:
        sys.exit(f"relay: {SWITCHBOARD}: {failure}")
    if not caller["platform"]:
        sys.exit(f"relay: {SWITCHBOARD}: the key of {caller['client_id']} is not a platform key")
    for once, activity in stored("SELECT id, activity FROM inbox WHERE activity NOT NULL"):
        POOL.submit(work, once, json.loads(activity))
    serve(receive)
