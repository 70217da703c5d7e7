#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""So many clients of a server, in five states: says `ready` when each is in its own, and waits to be killed.

    crowd_of_clients.py PORT COUNT
"""

import resource
import socket
import sys
import time

LINE = " HTTP/1.1\r\nHost: a\r\n"
SOCKET = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

# what is sent, and what has to come before the next
STATES = [
    (f"GET /ok{LINE}\r\n", b"ok"),
    (f"GET /ok{LINE}Half: a he", b""),
    (f"PUT /reads{LINE}Content-Length: 1000000\r\n\r\nsome", b""),
    (f"GET /writes{LINE}\r\n", b"HTTP/1.1 200"),
    (f"GET /socket{LINE}{SOCKET}", b"HTTP/1.1 101"),
]


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = []
    for i in range(count):
        sent, expected = STATES[i % len(STATES)]
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(sent.encode())
        clients.append((client, expected))
    for client, expected in clients:
        came = b""
        while expected not in came:
            piece = client.recv(1024)
            if not piece:
                sys.exit(f"closed after {came!r}")
            came += piece
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
