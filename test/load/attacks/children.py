# SPDX-License-Identifier: Apache-2.0
"""The processes of an attack: the probe, and the attacker."""

import socket
import ssl
import time

import crowd
import h1  # noqa: F401
import h2  # noqa: F401
import h3
import limits  # noqa: F401
import tls  # noqa: F401
import ws  # noqa: F401
import ws2  # noqa: F401

PATIENCE = 30.0  # s: a probe that waits longer has failed
EVERY = 0.05  # s: between two probes
CLOSED = "got b''"


class Probe:
    """Sends requests, alternately on a new connection and on a kept one. `repeated`: those that needed a second new connection."""

    def __init__(self, address, secure):
        self.address, self.kept, self.context, self.repeated = address, None, None, 0
        if secure:
            self.context = ssl.create_default_context()
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def connect(self):
        sock = socket.create_connection(self.address, PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(sock) if self.context else sock

    def ask(self, sock):
        """The fault, or None."""
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            piece = sock.recv(4096)
            answer += piece
            if not piece or (b"\r\n\r\n" in answer and not answer.startswith(b"HTTP/1.1 200")):
                return f"got {answer[:60]!r}"
        return None

    def fresh(self):
        """A new connection, and the fault of its answer. The server may close one whose request has not arrived, to make room, or because it came too late:
        then the request is sent once more."""
        sock, fault = self.try_fresh()
        if fault == CLOSED:
            self.repeated += 1
            sock, fault = self.try_fresh()
        return sock, fault

    def try_fresh(self):
        try:
            sock = self.connect()
            return sock, self.ask(sock)
        except (ConnectionError, ssl.SSLError):
            return None, CLOSED

    def anew(self):
        sock, fault = self.fresh()
        if sock:
            sock.close()
        return fault

    def again(self):
        """An idle connection may have been closed at any time to make room."""
        try:
            fault = self.ask(self.kept) if self.kept else CLOSED
        except (ConnectionError, ssl.SSLError):
            fault = CLOSED
        if fault == CLOSED:
            self.kept, fault = self.fresh()
        return fault

    def once(self, n):
        try:
            return self.again() if n % 2 else self.anew()
        except OSError as error:
            return str(error) or type(error).__name__


def probe(address, kind, pipe):
    """Reports that it has begun; sends requests until it gets a message; returns the sorted times, the faults, and how many were repeated."""
    times, wrong, client = [], [], h3.Probe(address) if kind == "h3" else Probe(address, kind == "tls")
    client.once(0)
    pipe.send("begun")
    while not pipe.poll(EVERY) or not times:
        began = time.monotonic()
        fault = client.once(len(times))
        times.append(time.monotonic() - began)
        if fault:
            wrong.append(fault)
    pipe.recv()
    pipe.send((sorted(times), wrong, client.repeated))


def attacker(name, address, seconds, pipe):
    attack = next(attack for attack in crowd.ATTACKS if (attack.kind, attack.name) == name)
    of_kind = h3.Crowd if attack.kind == "h3" else crowd.Crowd
    pipe.send(of_kind(attack, address, time.monotonic() + seconds).run())
