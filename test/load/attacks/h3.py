# SPDX-License-Identifier: Apache-2.0
"""Attacks on HTTP/3, and the clients for them: those of test/lib, many in one thread.

A generator drives each client, as in crowd.py. It yields frames (a tuple of them, for one packet), seconds to wait, or CLOSE; the client's attributes show
what the server did. Counts how the server ended connections, and what else was noted.
"""

import collections
import os
import time

import crowd
from crowd import CLOSE, attack, jitter
from tls import LISTENER

try:
    from lib import h3, quic
    from lib.peer3 import CONTROL, H3

    AVAILABLE = True
except ImportError:  # python3-cryptography is missing
    H3, AVAILABLE = object, False


class Nobody:
    """Replaces the host that this client's tests play."""

    def __init__(self, address):
        self.address = address
        self.out, self.in_ = os.pipe()
        self.exchanges = []

    def pump(self):
        pass


class Client(H3):
    def __init__(self, attack, nobody, source):
        super().__init__(nobody, source=source, **getattr(attack.script, "client", {}))
        self.resends = False
        self.counts_resets = False
        self.noted = collections.Counter()
        self.script, self.wake, self.over = attack.script(self), 0.0, False

    def note(self, what):
        self.noted[what] += 1

    def on_reset_stream(self, level, space, id, code, size):
        super().on_reset_stream(level, space, id, code, size)
        if self.counts_resets:
            self.note(self.reset_code(id))

    def act(self, now):
        """The next step of the script."""
        step = next(self.script, CLOSE)
        if isinstance(step, tuple):
            self.send(*step)
        elif isinstance(step, (int, float)):
            self.wake = now + step
        else:
            self.over = True


class Crowd:
    """As crowd.Crowd."""

    STEPS = 50  # of a client before the next has its turn

    def __init__(self, attack, address, end):
        self.attack, self.end = attack, end
        self.nobody, self.clients = Nobody(address), []
        self.opened, self.ends = 0, collections.Counter()

    def open(self):
        self.opened += 1
        n = self.opened
        self.clients.append(Client(self.attack, self.nobody, f"127.{1 + n // 62500 % 250}.{n // 250 % 250}.{1 + n % 250}"))

    def turn(self, client):
        for _ in range(self.STEPS):
            now = time.monotonic()
            if client.wake > now or client.closed or client.over:
                break
            client.act(now)
        client.receive()
        if client.closed:
            client.note(client.closing()[0])
        if client.closed or client.over:
            self.ends += client.noted
            client.close()
            self.clients.remove(client)
            self.open()

    def waits(self):
        return self.attack.ends and not self.attack.ends & set(self.ends + sum((c.noted for c in self.clients), collections.Counter()))

    def run(self):
        for _ in range(self.attack.clients):
            self.open()
        while time.monotonic() < self.end or (self.waits() and time.monotonic() < self.end + crowd.GRACE):
            for client in list(self.clients):
                self.turn(client)
            soonest = min(client.wake for client in self.clients)
            time.sleep(max(0.0, min(soonest - time.monotonic(), 0.005)))
        for client in self.clients:
            self.ends += client.noted
            client.close()
        return self.opened, dict(self.ends)


class Probe:
    """Sends requests on a new connection and on a kept one, in turns."""

    def __init__(self, address):
        self.nobody, self.kept, self.repeated = Nobody(address), None, 0

    def ask(self, client):
        """What was wrong, or None."""
        stream = client.next_stream()
        client.ask(stream, [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.example")])
        client.until(lambda: client.ended(stream) or client.closed, "the answer")
        answer = client.answers.get(stream)
        return None if answer and (answer.status, answer.body) == (200, b"ok") else f"got {client.seen()}"

    def once(self, n):
        try:
            if n % 2 and self.kept and not self.kept.closed:
                return self.ask(self.kept)
            client = H3(self.nobody).open()
            fault = self.ask(client)
            if self.kept:
                self.kept.leave()
            self.kept = client
            return fault
        except Exception as error:  # noqa: BLE001: whatever it is, the probe has failed
            self.kept = None
            return str(error) or type(error).__name__


def over_quic(name, answer, ends="", limit="", **more):
    if not AVAILABLE:
        return lambda script: script
    return attack("h3", name, answer, ends, limit, **{**LISTENER, "http3": "true", **more})


def get(path="/", method="GET"):
    return h3.headers([(":method", method), (":scheme", "https"), (":path", path), (":authority", "a.example")])


def opened(client):
    """A script's steps until requests may be sent."""
    client.resends = True
    client.send_hello()
    while not client.confirmed:
        client.resend()
        yield 0.002
    client.resends = False
    yield (quic.stream(CONTROL, quic.number(h3.CONTROL) + h3.settings()),)


def flood(client, frames):
    """Sends the results of frames(n), repeatedly."""
    yield from opened(client)
    n = 0
    while True:
        yield frames(n)
        n += 1


# ---- who has no connection


def raw(client, packets):
    client.take_retry = lambda *_: None
    client.take_short = lambda *_: client.note("reset")
    while True:
        for _ in range(20):
            client.transmit(next(packets))
        yield 0.001


def noise():
    while True:
        yield b"\xc0\0\0\0\1\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\0\x44\x96" + os.urandom(1174)


def strays():
    while True:
        yield b"\x40" + os.urandom(99)


@over_quic("first packets that are noise", "dropped, or Retry", "", ":h3_retry", clients=50, loud=True)
def first_packets_of_noise(client):
    return raw(client, noise())


@over_quic("packets of no connection", "100 resets per second", "reset", clients=50, loud=True)
def packets_of_no_connection(client):
    return raw(client, strays())


@over_quic("handshakes that are begun", "Retry", "Retry", ":h3_retry", clients=50, loud=True, h3_retry=64, handshake_timeout=400)
def handshakes_begun(client):
    client.take_retry = lambda *_: client.note("Retry")
    client.finish = lambda _: None
    client.send_hello()
    yield jitter(0.05)


@over_quic("handshakes, and gone", "served", clients=4, loud=True)
def handshakes(client):
    yield from opened(client)
    yield (quic.application_close(0x100),)


# ---- packets that bring nothing

FEW = {"clients": 4, "loud": True, "h3_packets": 200, "h3_packet_rate": 50}


@over_quic("PING", "EXCESSIVE_LOAD", "EXCESSIVE_LOAD", ":h3_packets, :h3_packet_rate", **FEW)
def pings(client):
    return flood(client, lambda n: (quic.ping(),))


@over_quic("PATH_CHALLENGE", "EXCESSIVE_LOAD", "EXCESSIVE_LOAD", ":h3_packets, :h3_packet_rate", **FEW)
def challenges(client):
    return flood(client, lambda n: (quic.path_challenge(n.to_bytes(8, "big")),))


@over_quic("NEW_CONNECTION_ID that retires (CVE-2024-22189)", "closed", "EXCESSIVE_LOAD RESET", ":h3_packets, :h3_packet_rate", **FEW)
def connection_ids(client):
    client.acks = False
    return flood(client, lambda n: (quic.new_connection_id(n + 1, n + 1),))


@over_quic("bytes with gaps between them", "closed", "EXCESSIVE_LOAD INTERNAL_ERROR", ":h3_memory, :h3_packets", **FEW)
def gaps(client):
    return flood(client, lambda n: tuple(quic.stream(0, b"x", 2 * (100 * n + i) + 1) for i in range(100) if n < 300) or (quic.ping(),))


# ---- requests


@over_quic("rapid reset (CVE-2023-44487)", "EXCESSIVE_LOAD", "EXCESSIVE_LOAD", ":h3_max_resets, :h3_reset_rate", clients=4, loud=True)
def rapid_reset(client):
    yield from opened(client)
    octets, number = get(), 0
    while True:
        while client.limits["streams"] <= number:
            yield 0.002
        id, number = 4 * number, number + 1
        yield quic.stream(id, octets), quic.reset_stream(id, 0x10C, len(octets)), quic.stop_sending(id, 0x10C)


@over_quic("answers that are not acknowledged", "cut", "REQUEST_CANCELLED EXCESSIVE_LOAD", ":write_timeout, :response_rate, :h3_unacked, :max_unsent", clients=16, write_timeout=400)  # fmt: skip
def not_acknowledged(client):
    yield from opened(client)
    client.counts_resets = True
    yield (quic.stream(0, get("/large"), 0, True),)
    client.acks = False
    while True:
        yield 0.05


@over_quic("windows of zero", "cut", "REQUEST_CANCELLED", ":write_timeout, :window", clients=8, write_timeout=400)
def windows_of_zero(client):
    client.credits, client.counts_resets = False, True
    yield from opened(client)
    yield tuple(quic.stream(4 * n, get("/large"), 0, True) for n in range(8))
    while True:
        yield 0.05


windows_of_zero.client = {"parameters": {"stream_data_local": 100}}


@over_quic("bodies by the byte", "408", "408", ":body_rate, :body_grace", clients=32, body_grace=400)
def slow_bodies(client):
    yield from opened(client)
    octets = get("/read", "POST") + quic.number(h3.DATA) + quic.number(1000)
    yield (quic.stream(0, octets),)
    for n in range(1000):
        answer = client.answers.get(0)
        if answer and answer.status:
            client.note(str(answer.status))
            return
        yield jitter(0.1)
        yield (quic.stream(0, b"x", len(octets) + n),)
