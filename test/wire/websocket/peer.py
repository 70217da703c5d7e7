"""One case: a client of ours, the port, and a host that echoes."""

import select
import socket
import struct
import time

from lib import mp, ws as wire
from lib.program import *  # noqa: F403: the kinds, for the cases too
from lib.program import ERROR, REQUEST, PortDied, Program

COST = 16  # bytes of the window that each SEND costs beside its data
PATIENCE = 8.0  # s: how long a case waits for what must come

CASES = []


class Wrong(Exception):
    pass


class Case:
    def __init__(self, name, run, options, host, http, prefetch):
        self.name, self.run, self.options, self.host, self.http, self.prefetch = name, run, options, host, http, prefetch
        self.title = (run.__doc__ or "").strip()


def case(name=None, host="echo", http=(1, 2), prefetch=1, **options):
    """A test. host: echo, nothing (it upgrades, and leaves the rest to the case), or silent (it does not even
    that); http: the versions that it is for; prefetch: messages that an echoing host asks for before it answers the first;
    options: those of UPGRADE."""

    def add(run):
        CASES.append(Case(name or run.__name__, run, options, host, http, prefetch))
        return run

    return add


class Port(Program):
    """The program, and a host for it."""

    def __init__(self, path, hello=None):
        self.begin(None)
        super().__init__(path, hello)
        self.send([DEMAND, 1 << 20])

    def begin(self, case, upgrade="websocket"):
        self.case, self.upgrade = case, upgrade
        self.heard, self.errors = [], []
        self.stream, self.head, self.partial = None, None, b""

    def note(self, kind, rest):
        """Of an ERROR the cases name the field and the rule."""
        if kind != ERROR:
            return super().note(kind, rest)
        self.errors.append(f"{rest[2]} {rest[3]}")
        return True

    def take(self, kind, rest):
        if kind == REQUEST:
            self.take_request(rest[0], mp.decode(rest[1])[0])
        elif rest[0] == self.stream:
            self.take_event(kind, rest[1:])

    def take_request(self, stream, head):
        self.stream, self.head = stream, head
        if self.case is None:
            return self.send([ABORT, stream, 400])
        if self.case.host == "silent":
            return
        self.send([UPGRADE, stream, self.upgrade, [], self.case.options])
        if self.case.host == "echo":
            self.send([READ, stream, self.case.prefetch, 65000])

    def take_event(self, kind, rest):
        if kind == RECV:
            self.partial += rest[1]
            if rest[2]:
                return
            rest, self.partial = [rest[0], self.partial], b""
        self.heard.append((kind, *rest))
        if self.case and self.case.host == "echo" and kind == RECV:
            if rest[0] < wire.CLOSE:
                self.send_message(rest[0], rest[1])
            self.send([READ, self.stream, 1, 65000])

    def send_message(self, opcode, data):
        """The default window is larger than any piece, and the cases' messages leave it room."""
        pieces = wire.cut(data, 60000)
        left = len(data)
        for piece in pieces:
            left -= len(piece)
            self.send([SEND, self.stream, opcode, piece, left])


class Peer:
    """The client, over HTTP/1.1. http2.py has the other one."""

    SWITCHED, ACCEPT = 101, wire.ACCEPT  # the status that opens a WebSocket, and the proof

    def __init__(self, port, case):
        self.port, self.case = port, case
        self.socket = socket.create_connection(port.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input, self.eof, self.reads = b"", False, True

    def close(self):
        self.eof = True
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # ---- waiting

    def step(self, until, timeout):
        """Lets the port and the host go on."""
        wanted = [self.port.out] + ([self.socket] if self.reads and not self.eof else [])
        ready, _, _ = select.select(wanted, [], [], max(0, min(timeout, until - time.monotonic())))
        if self.port.out in ready:
            self.port.pump()
        if self.socket in ready:
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            self.receive(data)

    def receive(self, data):
        self.input += data
        self.eof = not data

    def wait(self, done, what):
        until = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > until:
                raise Wrong(f"did not happen: {what}; the host heard {self.port.heard[-3:]}, unread {self.input[:40]!r}")
            self.step(until, PATIENCE)

    def expect(self, true, what):
        if not true:
            raise Wrong(what)

    # ---- what the client does

    def ends(self):
        """Its own side."""
        self.socket.shutdown(1)

    def stuff(self, data, most):
        """Sends it again and again, as long as it goes without waiting; how many bytes that were."""
        self.socket.setblocking(False)
        sent = 0
        try:
            while sent < most:
                sent += self.socket.send(data[sent % len(data) :])
        except BlockingIOError:
            pass
        return sent

    def send(self, *data):
        self.transmit(b"".join(data))

    def transmit(self, data):
        self.socket.setblocking(False)
        until = time.monotonic() + PATIENCE
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self.step(until, 0.01)
                self.expect(time.monotonic() < until, "the port does not read")
            except (ConnectionResetError, BrokenPipeError):
                break
        self.socket.setblocking(True)

    def send_cut(self, data, size=1):
        """So that the port sees the pieces one by one: each is read before the next is sent."""
        for piece in wire.cut(data, size):
            self.send(piece)
            self.sync()

    def sync(self):
        """Waits until the port has had a turn."""
        self.port.figures = None
        self.port.send([STATS, 0])
        self.wait(lambda: self.port.figures is not None, "the answer to STATS")

    def request(self, *fields, method="GET", version="1.1", path="/", host="a"):
        lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def upgrade_fields(self, *more, key=wire.KEY):
        return ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *more)

    def answer(self):
        """The head of an answer: its status, and its fields."""
        self.wait(lambda: b"\r\n\r\n" in self.input or self.eof, "an answer")
        self.expect(b"\r\n\r\n" in self.input, "closed without an answer")
        head, self.input = self.input.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            fields.setdefault(name.lower(), []).append(value.strip())
        return int(lines[0].split()[1]), {name: ", ".join(values) for name, values in fields.items()}

    def open(self, *more):
        self.send(self.request(*self.upgrade_fields(*more)))
        status, fields = self.answer()
        self.expect(status == self.SWITCHED, f"{status} instead of {self.SWITCHED}")
        self.expect(fields.get("sec-websocket-accept") == self.ACCEPT, "a wrong accept value")
        self.fields = fields
        return self

    # ---- what must come

    def frame(self):
        self.wait(lambda: wire.take(self.input) or self.eof, "a frame")
        taken = wire.take(self.input)
        if not taken:
            raise Wrong("closed instead of a frame")
        got, self.input = taken
        return got

    def message(self):
        """A whole message: (opcode, data, rsv of its first frame)."""
        opcode, data, fin, rsv = self.frame()
        while not fin:
            more, piece, fin, _ = self.frame()
            self.expect(more == wire.CONTINUATION, f"a frame of {more} inside of a message")
            data += piece
        return opcode, data, rsv

    def expect_message(self, opcode, data):
        data = data.encode() if isinstance(data, str) else data
        got, payload, _ = self.message()
        self.expect(got == opcode, f"opcode {got} instead of {opcode}: {payload[:60]!r}")
        self.expect(payload == data, f"{payload[:60]!r} ({len(payload)}) instead of {data[:60]!r} ({len(data)})")

    def expect_close(self, code=None, reason=None):
        """A Close frame, and then the end of the connection. code None: a frame without one."""
        opcode, payload, _, _ = self.frame()
        self.expect(opcode == wire.CLOSE, f"opcode {opcode} instead of a Close: {payload[:60]!r}")
        got = struct.unpack(">H", payload[:2])[0] if payload else None
        self.expect(got == code, f"Close {got} {payload[2:]!r} instead of {code}")
        if reason is not None:
            self.expect(payload[2:] == reason, f"the reason {payload[2:]!r} instead of {reason!r}")
        self.expect_eof()

    def expect_eof(self):
        self.wait(lambda: self.eof or self.input, "the end of the connection")
        self.expect(self.eof and not self.input, f"more after the end: {self.input[:60]!r}")

    def fails_with(self, code):
        """Close with this code; the host hears the same, and that the stream ended by an error."""
        self.expect_close(code)
        self.hears_end(GONE, "error")
        closed = [event[1] for event in self.port.heard if event[0] == CLOSED]
        self.expect(closed == [code], f"the host heard of {closed} instead of {code}")

    def hears(self, *event):
        self.wait(lambda: event in self.port.heard, f"{event} at the host")

    def hears_end(self, kind, *why):
        self.wait(lambda: self.port.heard and self.port.heard[-1][0] in (DONE, GONE), "the end at the host")
        last = self.port.heard[-1]
        self.expect(last[0] == kind and (not why or last[1] == why[0]), f"{last} at the host instead of {kind} {why}")

    def closes(self, code=1000):
        """The end of a case that went well."""
        self.send(wire.close(code))
        self.expect_close(code)
        self.hears_end(DONE)
