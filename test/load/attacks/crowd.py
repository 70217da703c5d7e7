# SPDX-License-Identifier: Apache-2.0
"""The clients of an attack: many sockets in one thread.

Each client is driven by a generator, which yields bytes to send, seconds to wait, or one of SHUT, CLOSE and RESET; it may look at
`client.received`, the last bytes that were received. The ends of connections are counted by `kind`.
"""

import collections
import random
import re
import select
import socket
import struct
import time

from lib import h2, tls, ws

SHUT, CLOSE, RESET = object(), object(), object()
KEEP = 1 << 16
GRACE = 30.0  # s: more time for the first end of a connection, since the machine may be busy

ATTACKS = []


class Attack:
    def __init__(self, script, kind, name, answer, ends, limit, clients, options, reads, small, loud, source):
        self.script, self.kind, self.name, self.answer, self.ends, self.limit = script, kind, name, answer, set(ends.split()), limit
        self.clients, self.options, self.reads, self.small, self.loud = clients, options, reads, small, loud
        self.source = source


def attack(kind, name, answer, ends="", limit="", clients=1, reads=True, small=False, loud=False, source=None, **options):
    """Registers an attack. answer, limit: for the table; ends: how connections may end, and at least one must; none: they stay open.
    clients: concurrent connections; reads: whether they read; small: whether their buffer is small; loud: it uses a whole core; source: its address; options:
    the server's. A client that is cut reconnects."""

    def add(script):
        ATTACKS.append(Attack(script, kind, name, answer, ends, limit, clients, options, reads, small, loud, source))
        return script

    return add


# ---- the end of a connection, in one word


def end_of_h1(received, how):
    statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", received)
    return statuses[-1].decode() if statuses and statuses[-1] >= b"400" else how


def end_of_h2(received, how):
    """The last GOAWAY. The kept end of a long answer may begin inside a frame."""
    found = re.findall(rb"\x00\x00.\x07\x00\x00\x00\x00\x00.{4}(.{4})", received, re.S)
    return h2.ERRORS[int.from_bytes(found[-1], "big")] if found else how


def end_of_ws(received, how):
    head, _, frames = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        return end_of_h1(received, how)
    while taken := ws.take(frames):
        (opcode, payload, _, _), frames = taken
        if opcode == ws.CLOSE:
            return str(int.from_bytes(payload[:2], "big"))
    return how


def end_of_tls(received, how):
    """The alert, if it came in plain text."""
    while len(received) >= 5:
        size = int.from_bytes(received[3:5], "big")
        kind, payload, received = received[0], received[5 : 5 + size], received[5 + size :]
        if kind == tls.ALERT and size == 2:
            return tls.ALERTS.get(payload[1], str(payload[1]))
    return how


END_OF = {"h1": end_of_h1, "h2": end_of_h2, "ws": end_of_ws, "ws2": end_of_h2, "tls": end_of_tls}


# ---- clients


class Client:
    def __init__(self, attack, address):
        self.sock = socket.socket()
        if attack.small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        if attack.source:
            self.sock.bind((attack.source, 0))
        self.sock.connect_ex(address)
        self.reads, self.received, self.out, self.wake = attack.reads, b"", b"", 0.0
        self.noted = collections.Counter()
        self.script = attack.script(self)
        self.over = self.deaf = self.heard = False

    def note(self, what):
        """A part of an answer that is counted like an end."""
        self.noted[what] += 1

    def events(self):
        if self.heard:
            return 0
        return select.EPOLLRDHUP | (select.EPOLLIN if self.reads else 0) | (select.EPOLLOUT if self.out else 0)

    def receive(self):
        """False: no more bytes will come."""
        try:
            while data := self.sock.recv(1 << 18):
                self.received = (self.received + data)[-KEEP:]
            return False
        except BlockingIOError:
            return True

    def bite(self):
        try:
            self.sock.recv(1)
        except BlockingIOError:
            pass

    def act(self, now):
        """Runs the script until it has to wait."""
        while not self.out and not self.over and self.wake <= now:
            step = next(self.script, CLOSE)
            if isinstance(step, (bytes, bytearray)):
                self.out = memoryview(step)
                self.send()
                return
            if isinstance(step, (int, float)):
                self.wake = now + step
            elif step is SHUT:
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.leave(step)

    def leave(self, how):
        if how is RESET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.over = True

    def send(self):
        try:
            while self.out:
                self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            pass


class Crowd:
    def __init__(self, attack, address, end):
        self.attack, self.address, self.end = attack, address, end
        self.poll, self.clients = select.epoll(), {}
        self.opened, self.ends = 0, collections.Counter()

    def open(self):
        client = Client(self.attack, self.address)
        self.opened += 1
        self.clients[client.sock.fileno()] = client
        self.poll.register(client.sock, client.events() | select.EPOLLOUT)

    def ended(self, fd, how):
        """The connection has ended; how: None if the client has left."""
        client = self.clients.pop(fd)
        if how:
            self.ends[END_OF[self.attack.kind](client.received, how)] += 1
        self.ends += client.noted
        client.sock.close()
        self.open()

    def look(self, fd, events):
        """How the server ended the connection."""
        client = self.clients.get(fd)
        if client is None:
            return
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP) and not client.receive():
                self.closed(fd, client)
            elif client.out:
                client.send()
        except OSError as error:
            self.broken(fd, client, error)

    def closed(self, fd, client):
        """A client that does not read stays until the connection is gone."""
        if not client.deaf or client.heard:
            return self.ended(fd, None if client.heard else "closed")
        self.ends[END_OF[self.attack.kind](client.received, "closed")] += 1
        client.heard = True

    def broken(self, fd, client, error):
        """Bytes before the reset may still be readable."""
        try:
            client.receive()
        except OSError:
            pass
        self.ended(fd, "reset" if error.errno in (104, 32) else error.strerror)

    def act(self, fd, client, now):
        try:
            before = client.events()
            client.act(now)
            if client.over:
                self.ended(fd, None)
            elif client.events() != before or client.wake == 0.0:
                self.poll.modify(fd, client.events())
        except OSError as error:
            self.broken(fd, client, error)

    def turn(self):
        now = time.monotonic()
        for fd, client in list(self.clients.items()):
            if not client.out and client.wake <= now and fd in self.clients:
                self.act(fd, client, now)
        waits = min((c.wake for c in self.clients.values() if not c.out), default=now + 0.05)
        for fd, events in self.poll.poll(max(0.0, min(waits - time.monotonic(), 0.05)), 256):
            self.look(fd, events)
            if fd in self.clients:
                self.poll.modify(fd, self.clients[fd].events())

    def waits(self):
        """Waits longer if no connection has ended as expected, since the machine may be busy."""
        return self.attack.ends and not self.attack.ends & set(self.ends)

    def run(self):
        for _ in range(self.attack.clients):
            self.open()
        while time.monotonic() < self.end or (self.waits() and time.monotonic() < self.end + GRACE):
            self.turn()
        for client in self.clients.values():
            self.ends += client.noted
            client.sock.close()
        return self.opened, dict(self.ends)


def jitter(seconds):
    """Random delays, so that clients do not act at the same moment."""
    return seconds * random.uniform(0.5, 1.5)
