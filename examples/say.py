#!/usr/bin/env python3
"""Says something to a relay as Teams would, and prints the relay's reply.

usage: say.py M365_TENANT TEXT       a message from somebody of that Microsoft 365 tenant
       say.py M365_TENANT --install  the bot is installed there

The relay must run without MicrosoftAppPassword, since nobody signs these activities.
"""

import http.server
import json
import os
import sys
import time
from urllib import request

LIMIT_SECONDS = 30


class Connector(http.server.BaseHTTPRequestHandler):
    """Takes the reply that the relay sends to the activity's service URL."""

    def do_POST(self):
        reply = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(reply["text"])
        self.server.said = True
        self.send_response_only(201)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"id": "reply"}')


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    tenant, text = sys.argv[1:]
    connector = http.server.HTTPServer(("127.0.0.1", 0), Connector)
    connector.said, connector.timeout = False, LIMIT_SECONDS
    activity = {
        "type": "message",
        "text": text,
        "id": str(time.time_ns()),
        "channelId": "msteams",
        "serviceUrl": f"http://127.0.0.1:{connector.server_port}/",
        "from": {"id": f"29:somebody-at-{tenant}"},
        "recipient": {"id": f"28:{os.environ.get('MicrosoftAppId', '')}"},
        "conversation": {"id": f"a:chat-at-{tenant}", "tenantId": tenant},
        "channelData": {"tenant": {"id": tenant}},
    }
    if text == "--install":
        activity |= {"type": "installationUpdate", "action": "add", "text": None}
    relay = f"http://{os.environ.get('RELAY_LISTEN', '127.0.0.1:3978')}/api/messages"
    headers = {"Content-Type": "application/json"}
    request.urlopen(request.Request(relay, json.dumps(activity).encode(), headers), timeout=10)
    connector.handle_request()
    if not connector.said:
        sys.exit(f"say: no reply came within {LIMIT_SECONDS} seconds")


if __name__ == "__main__":
    main()
