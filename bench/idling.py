# SPDX-License-Identifier: Apache-2.0
"""Shared by the workloads that measure the memory of idle connections: measuring, and clients."""

import base64
import os
import socket
import time

import machine
import report
import servers


class Connection:
    """A connection to a server; `ask()` is one exchange on it, False when it failed."""

    def __init__(self, server):
        self.socket = socket.create_connection((server.host, self.port(server)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.begin()
        if not self.ask():
            raise SystemExit(f"bench: {server.name} closed a connection, or did not answer its first request")

    def port(self, server):
        return server.port

    def begin(self):
        pass

    def exchange(self):
        raise NotImplementedError

    def ask(self):
        try:
            return self.exchange()
        except OSError:
            return False

    def take(self, size):
        """The next `count` bytes."""
        while len(self.data) < size:
            self.more()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def until(self, end):
        while end not in self.data:
            self.more()
        taken, _, self.data = self.data.partition(end)
        return taken

    def more(self):
        piece = self.socket.recv(65_536)
        if not piece:
            raise ConnectionResetError
        self.data += piece

    def close(self):
        self.socket.close()


class Http1(Connection):
    def exchange(self):
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        self.until(b"Hello, world!\n")
        return True


class Http2(Connection):
    """Handwritten frames: a request is five fields of the static table (RFC 7541), an answer ends with END_STREAM."""

    DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
    REQUEST = b"\x82\x86\x84\x01\x05bench"  # GET, http, /, :authority bench

    def port(self, server):
        return server.h2_port

    def begin(self):
        self.stream = -1
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(self.SETTINGS))

    @staticmethod
    def frame(kind, flags=0, stream=0, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def exchange(self):
        self.stream += 2
        self.socket.sendall(self.frame(self.HEADERS, 5, self.stream, self.REQUEST))
        body = b""
        while True:
            head = self.take(9)
            payload = self.take(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in (self.SETTINGS, self.PING) and not flags & 1:
                self.socket.sendall(self.frame(kind, 1, 0, payload if kind == self.PING else b""))
            elif kind in (self.RST_STREAM, self.GOAWAY):
                return False
            elif kind == self.DATA and stream == self.stream:
                body += payload
                if flags & 1:
                    return body == b"Hello, world!\n"


class WebSocket(Connection):
    """Echoes of 32 bytes; the mask is zero, which servers treat like any other."""

    def begin(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            b"GET /websocket?hibernate HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
        )
        if not self.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 "):
            raise SystemExit("bench: a WebSocket was refused")

    def exchange(self):
        message = os.urandom(32)
        self.socket.sendall(b"\x82\xa0\0\0\0\0" + message)
        return self.take(34) == b"\x82\x20" + message


def table(bench, title, count, kind, load, peers=("sparx", "nginx", "cowboy")):
    """Memory of `count` connections of a kind, each after one exchange; load(server) runs first and is not counted."""
    count = min(count, machine.descriptor_limit() - 500)
    raw = {}
    for name in peers:
        if name not in bench.peers and name in servers.NAMES:
            continue
        with bench.start(name) as [server]:
            raw[name] = idle(server, count, kind, load)
            bench.say(f"{name:8} {(total(raw[name], 'after') - total(raw[name], 'before')) / count:,.0f} bytes a connection")
    base = {name: total(one, "after") - total(one, "before") for name, one in raw.items()}
    rows = [
        [
            name,
            report.count(base[name] / count),
            report.ratio(base[name], base.get("cowboy, tls" if name.endswith(", tls") else "cowboy")),
            ", ".join(f"{role} {(one['after'][role] - one['before'][role]) / count:,.0f}" for role in one["before"]),
            report.mebibytes(total(one, "before")),
            report.mebibytes(total(one, "after")),
            f"{one['answered']:,}",
        ]
        for name, one in raw.items()
    ]
    columns = ["server", "bytes a connection", "of Cowboy", "by process", "before", "with all open", "answered again"]
    note = "Growth of resident memory of all processes of the server; the kernel's part (about 3.7 kB a socket) is not in it."
    return report.Table(f"{count:,} {title}", columns, rows, raw, note)


def total(one, moment):
    return sum(one[moment].values())


def idle(server, count, kind, load):
    # One-time costs of the first load do not count for the connections.
    load(server)
    before = settled(server)
    connections = [kind(server) for _ in range(count)]
    after = settled(server)
    answered = sum(connection.ask() for connection in connections)
    for connection in connections:
        connection.close()
    return {"before": before, "after": after, "answered": answered}


def settled(server, still=5, at_most=20):
    """The memory once it has been stable for some seconds: a VM gives memory back only after a while."""
    memory, since = server.memory(), time.monotonic()
    deadline = since + at_most
    while time.monotonic() < min(since + still, deadline):
        time.sleep(0.5)
        now = server.memory()
        if now != memory:
            memory, since = now, time.monotonic()
    return memory
