"""A client that sends the frames it is told to, beside the host that answers the port's requests."""

import select
import socket
import struct
import time

from lib import h2 as wire
from lib.h2 import ACK, END_STREAM

PATIENCE = 3.0
QUIET = 0.15


class Wrong(Exception):
    """What a case expected did not come."""


def get(path="/", **more):
    return request("GET", path, **more)


def request(method, path="/", authority="localhost", scheme="http", extra=()):
    head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return [pair for pair in head if pair[1] is not None] + list(extra)


class Answer:
    def __init__(self):
        self.infos, self.fields, self.body, self.trailers = [], None, b"", None
        self.frames = 0
        self.ended = False
        self.reset = None

    @property
    def status(self):
        return self.fields and int(dict(self.fields)[":status"])

    def get(self, name):
        return next((value for key, value in self.fields if key == name), None)


class Peer:
    def __init__(self, port):
        self.port = port
        self.sock = socket.create_connection(port.address, PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.block = None
        self.decoder = wire.Decoder()
        self.frames, self.answers, self.pongs = [], {}, []
        self.settings = self.goaway = self.last = None
        self.acked = self.closed = False
        self.acks = True
        self.reading = True
        self.credit = {}

    def close(self):
        self.sock.close()

    # ---- sending

    def send(self, *parts):
        """What cannot be sent any more shows in what is received."""
        try:
            self.sock.sendall(b"".join(parts))
        except OSError:
            pass

    def send_slowly(self, octets, piece=1):
        for at in range(0, len(octets), piece):
            self.send(octets[at : at + piece])
            if at % 16 == 0:
                self.step(0.0005)

    def open(self, *pairs):
        """Preface and SETTINGS, and what they are answered with."""
        self.send(wire.PREFACE, wire.settings(*pairs))
        self.until(lambda: self.settings is not None and self.acked, "SETTINGS")
        return self

    # ---- receiving

    def step(self, patience):
        inputs = [self.port.out] + ([self.sock] if self.reading and not self.closed else [])
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
        if not octets:
            self.closed = True
        frames, self.input = wire.split(self.input + octets)
        for one in frames:
            self.take(*one)

    def take(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, payload))
        answer = self.answers.setdefault(stream, Answer()) if stream else None
        if kind == wire.SETTINGS:
            self.take_settings(flags, payload)
        elif kind == wire.PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == wire.PING:
            self.send(wire.ping(payload, True))
        elif kind == wire.GOAWAY:
            self.last, self.goaway = struct.unpack(">II", payload[:8])
        elif kind == wire.RST_STREAM:
            answer.reset = wire.ERRORS[struct.unpack(">I", payload)[0]]
        elif kind == wire.DATA:
            answer.body += payload
            answer.frames += 1
        elif kind == wire.WINDOW_UPDATE:
            self.credit[stream] = self.credit.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind in (wire.HEADERS, wire.CONTINUATION, wire.PUSH_PROMISE):
            self.take_block(kind, flags, stream, payload)
        if answer and kind in (wire.DATA, wire.HEADERS) and flags & END_STREAM:
            answer.ended = True

    def take_settings(self, flags, payload):
        if flags & ACK:
            self.acked = True
            return
        self.settings = {k: v for k, v in struct.iter_unpack(">HI", payload)}
        if self.acks:
            self.send(wire.settings(ack=True))

    def take_block(self, kind, flags, stream, payload):
        if kind != wire.CONTINUATION:
            self.block = (kind, stream, b"")
        kind, stream, block = self.block
        self.block = (kind, stream, block + payload)
        if not flags & wire.END_HEADERS:
            return
        if kind == wire.PUSH_PROMISE:
            promised = struct.unpack(">I", self.block[2][:4])[0]
            self.answers.setdefault(promised, Answer()).promise = self.decoder.decode(self.block[2][4:])
            return
        fields, answer = self.decoder.decode(self.block[2]), self.answers[stream]
        if answer.fields is not None:
            answer.trailers = fields
        elif int(dict(fields)[":status"]) < 200:
            answer.infos.append(fields)
        else:
            answer.fields = fields

    # ---- expecting

    def until(self, reached, what, patience=PATIENCE):
        end = time.monotonic() + patience
        while not reached():
            left = end - time.monotonic()
            if left <= 0 or (self.closed and self.input == b"" and not self.step(0.01) and not reached()):
                raise Wrong(f"no {what}; {self.seen()}")
            self.step(left if not self.closed else 0.05)

    def quiet(self, seconds=QUIET):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.closed:
            self.step(left)

    def seen(self):
        code = None if self.goaway is None else wire.ERRORS[self.goaway]
        streams = {i: (a.status, a.body[:40], a.ended, a.reset) for i, a in self.answers.items()}
        return f"goaway {code}, closed {self.closed}, streams {streams}"

    def expect(self, fine, what):
        if not fine:
            raise Wrong(f"{what}; {self.seen()}")

    def expect_goaway(self, *codes):
        self.until(lambda: self.goaway is not None or self.closed, "GOAWAY")
        self.expect(self.goaway is not None and wire.ERRORS[self.goaway] in codes, f"not GOAWAY {codes}")
        self.until(lambda: self.closed, "close after GOAWAY")

    def expect_closed(self):
        self.until(lambda: self.closed, "close")

    def expect_reset(self, stream, *codes):
        self.until(lambda: stream in self.answers and self.answers[stream].reset, f"RST_STREAM of {stream}")
        self.expect(self.answers[stream].reset in codes, f"not RST_STREAM {codes}")

    def expect_answer(self, stream, status=200, body=None):
        def there():
            answer = self.answers.get(stream)
            return answer and (answer.ended or answer.reset)

        self.until(there, f"answer on {stream}")
        answer = self.answers[stream]
        self.expect(answer.ended and answer.status == status, f"not a whole {status} on {stream}")
        self.expect(body is None or answer.body == body, f"another body on {stream}: {answer.body[:80]!r}")
        return answer

    def expect_alive(self):
        """The connection still works."""
        self.send(wire.ping(b"alive?!?"))
        self.until(lambda: b"alive?!?" in self.pongs, "PING answered")

    def host(self, reached, what):
        self.until(reached, what)

    def wait_request(self, count):
        self.until(lambda: len(self.port.exchanges) >= count, f"{count} requests at the host")
        return self.port.exchanges[count - 1]

    def no_request(self):
        self.expect(not self.port.exchanges, "a request reached the host")


class Case:
    def __init__(self, name, run, scripts, options):
        self.name, self.run, self.scripts, self.options = name, run, scripts, options
        self.title = (run.__doc__ or "").strip()


CASES = []


def case(*scripts, **options):
    """Registers a case: scripts for the host, one for each request, in the verbs of ../http1; options for HELLO."""

    def register(function):
        CASES.append(Case(function.__name__.replace("_", "-"), function, scripts, options))
        return function

    return register


def verb(line, fields=(), body=b""):
    words = line.split()
    return words[0], words[1:], list(fields), body


def script(*lines):
    return [verb(one) if isinstance(one, str) else verb(*one) for one in lines]


__all__ = ["Case", "CASES", "Peer", "Wrong", "case", "get", "request", "script", "wire"]
