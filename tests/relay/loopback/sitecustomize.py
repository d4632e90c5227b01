"""Python reads this file before a program: the hosts of the Bot Framework are the fake connector
of the test, and no other host can be reached.
"""

import os
import socket

HOSTS = os.environ["FAKE_HOSTS"].split(",")
PORT = int(os.environ["FAKE_PORT"])
connect = socket.create_connection


def create_connection(address, *arguments, **named):
    host, port = address
    if host in HOSTS and port == 443:
        return connect(("127.0.0.1", PORT), *arguments, **named)
    if host != "127.0.0.1":
        raise OSError(f"a test does not connect to {host}")
    return connect(address, *arguments, **named)


socket.create_connection = create_connection
