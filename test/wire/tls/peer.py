# SPDX-License-Identifier: Apache-2.0
"""A client that sends any records, beside the host that answers the port's requests."""

import select
import socket
import ssl
import time
from pathlib import Path

from lib import tls

PATIENCE = 60.0  # s
FILES = Path(__file__).resolve().parents[2] / "fixtures" / "tls"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class Wrong(Exception):
    """What a case expected did not arrive."""


def pem(name):
    return (FILES / name).read_bytes()


def der(name):
    return ssl.PEM_cert_to_DER_cert(pem(f"{name}.crt").decode())


CA = pem("ca.crt")


def certificate(name):
    return {"chain": pem(f"{name}.crt"), "key": pem(f"{name}.key")}


class Peer:
    def __init__(self, port):
        self.port, self.others = port, []
        self.sock = socket.create_connection(port.address, PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls, self.records, self.alerts, self.body = None, [], [], b""
        self.closed = False

    def close(self):
        self.sock.close()
        for other in self.others:
            other.close()

    def another(self):
        """One more connection to the same port."""
        self.others.append(Peer(self.port))
        return self.others[-1]

    # ---- sending

    def send(self, *parts):
        """If sending fails, the received bytes show why."""
        try:
            self.sock.sendall(b"".join(parts))
        except OSError:
            pass
        return self

    def message(self, *parts):
        """Messages of the handshake, in one record of plain text."""
        return self.send(self.tls.record(tls.HANDSHAKE, b"".join(parts)))

    def sealed(self, kind, payload, pad=0):
        return self.send(self.tls.seal(kind, payload, pad))

    def client(self, **more):
        """A client that has sent nothing yet."""
        self.tls = tls.Client(**more)
        return self.tls

    def hello(self, hello=None, **more):
        """The client's ClientHello, or the given one."""
        self.client(**more)
        return self.message(self.tls.hello() if hello is None else hello)

    def flight(self, **more):
        """A ClientHello, and the server's whole answer."""
        if self.tls is None or more:
            self.hello(**more)
        self.until(lambda: self.tls.flight_is_whole, "the server's flight")
        return self

    def shake(self, **more):
        """The whole handshake."""
        return self.flight(**more).send(self.tls.finish())

    def get(self, pieces=None):
        """A request, and its answer."""
        self.body = b""
        for piece in pieces or [GET]:
            self.sealed(tls.DATA, piece)
        return self.answered()

    def answered(self):
        self.until(lambda: self.body.endswith(b"\r\n\r\n"), "answer")
        self.expect(self.body.startswith(b"HTTP/1.1 200 "), "not 200")
        return self

    def served(self, **more):
        """A handshake, and a request."""
        return self.shake(**more).get()

    # ---- receiving

    def step(self, patience):
        inputs = [self.port.out] + ([] if self.closed else [self.sock])
        ready, _, _ = select.select(inputs, [], [], patience)
        if self.port.out in ready:
            self.port.pump()
        if self.sock in ready:
            self.receive()
        return ready

    def receive(self):
        try:
            octets = self.sock.recv(1 << 16)
        except OSError:
            octets = b""
        self.closed = not octets
        try:
            records = self.tls.feed(octets)
        except Exception as error:  # noqa: BLE001 anything that cannot be read is a fault
            raise Wrong(f"{type(error).__name__}: {error}; {self.seen()}") from None
        for kind, payload in records:
            self.records.append((kind, payload))
            if kind == tls.ALERT:
                self.alerts.append(tls.ALERTS.get(payload[1], str(payload[1])))
            elif kind == tls.DATA:
                self.body += payload

    # ---- expecting

    def until(self, reached, what, patience=PATIENCE):
        end = time.monotonic() + patience
        while not reached():
            left = end - time.monotonic()
            if left <= 0 or (self.closed and not self.step(1.0) and not reached()):
                raise Wrong(f"no {what}; {self.seen()}")
            self.step(left if not self.closed else 0.05)
        return self

    def seen(self):
        messages = [kind for kind, _ in self.tls.heard] if self.tls else []
        return f"alerts {self.alerts}, closed {self.closed}, messages {messages}, data {self.body[:60]!r}"

    def expect(self, fine, what):
        if not fine:
            raise Wrong(f"{what}; {self.seen()}")
        return self

    def expect_alert(self, *names):
        """Expects one of these alerts, and then the end, without a request."""
        self.until(lambda: self.alerts or self.closed, "alert")
        self.expect(self.alerts and self.alerts[0] in names, f"not the alert {' or '.join(names)}")
        self.sock.shutdown(socket.SHUT_WR) if not self.closed else None
        self.until(lambda: self.closed, "end after the alert")
        return self

    def expect_closed(self):
        self.until(lambda: self.closed, "end")
        return self

    def no_request(self):
        return self.expect(not self.port.exchanges, "a request reached the host")


class Case:
    def __init__(self, name, run, certificates, options):
        self.name, self.run, self.certificates, self.options = name, run, certificates, options
        self.title = (run.__doc__ or "").strip()


CASES = []


def case(certificates="a-ec a-rsa", **options):
    """Registers a case: the listener's certificates (../../fixtures/tls), and options of its `tls` (PROTOCOL.md, section 7.2)."""

    def register(function):
        CASES.append(Case(function.__name__.replace("_", "-"), function, certificates, options))
        return function

    return register


def both(function):
    """A case for each version, which is its argument."""

    def named(version):
        def run(t):
            return function(t, version)

        run.__doc__ = f"TLS 1.{version - 10}: {function.__doc__}"
        run.__name__ = f"{function.__name__}_{version}"
        case()(run)

    named(12)
    named(13)
    return function


__all__ = ["CA", "CASES", "GET", "Case", "Peer", "Wrong", "both", "case", "der", "pem", "tls"]
