# SPDX-License-Identifier: Apache-2.0
"""The client: a WebSocket, or another protocol behind an upgrade, over HTTP/1.1 or over HTTP/2."""

import struct

from lib import h1, h2, ws
from lib.peer import H2, WIDE, Peer, Wrong
from lib.program import CLOSED, DONE, GONE

STREAM = 1


class Socket:
    """What both have in common. `input`: unread bytes after the answer; `eof`: nothing more will come."""

    def seen(self):
        return f"the host heard {self.port.heard[-3:]}, unread {self.input[:40]!r}, {super().seen()}"

    def open(self, *more):
        self.send(self.request(*self.upgrade_fields(*more)))
        status, fields = self.answer()
        self.expect(status == self.SWITCHED, f"{status} instead of {self.SWITCHED}")
        self.expect(fields.get("sec-websocket-accept") == self.ACCEPT, "a wrong accept value")
        self.fields = fields
        return self

    # ---- what must come

    def frame(self):
        self.until(lambda: ws.take(self.input) or self.eof, "a frame")
        taken = ws.take(self.input)
        if not taken:
            raise Wrong("closed instead of a frame")
        got, self.input = taken
        return got

    def message(self):
        """A whole message: (opcode, data, rsv of its first frame)."""
        opcode, data, fin, rsv = self.frame()
        while not fin:
            more, piece, fin, _ = self.frame()
            self.expect(more == ws.CONTINUATION, f"a frame of {more} inside of a message")
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
        self.expect(opcode == ws.CLOSE, f"opcode {opcode} instead of a Close: {payload[:60]!r}")
        got = struct.unpack(">H", payload[:2])[0] if payload else None
        self.expect(got == code, f"Close {got} {payload[2:]!r} instead of {code}")
        if reason is not None:
            self.expect(payload[2:] == reason, f"the reason {payload[2:]!r} instead of {reason!r}")
        self.expect_eof()

    def expect_eof(self):
        self.until(lambda: self.eof or self.input, "the end of the connection")
        self.expect(self.eof and not self.input, f"more after the end: {self.input[:60]!r}")

    def fails_with(self, code):
        """Close with this code; the host hears the same, and that the stream ended by an error."""
        self.expect_close(code)
        self.hears_end(GONE, "error")
        closed = [event[1] for event in self.port.heard if event[0] == CLOSED]
        self.expect(closed == [code], f"the host heard of {closed} instead of {code}")

    def hears(self, *event):
        self.until(lambda: event in self.port.heard, f"{event} at the host")

    def hears_end(self, kind, *why):
        self.until(lambda: self.port.heard and self.port.heard[-1][0] in (DONE, GONE), "the end at the host")
        last = self.port.heard[-1]
        self.expect(last[0] == kind and (not why or last[1] == why[0]), f"{last} at the host instead of {kind} {why}")

    def closes(self, code=1000):
        """The end of a successful case."""
        self.send(ws.close(code))
        self.expect_close(code)
        self.hears_end(DONE)


class OverHttp1(Socket, Peer):
    SWITCHED, ACCEPT = 101, ws.ACCEPT  # the status that opens a WebSocket, and its sec-websocket-accept

    def __init__(self, port):
        self.input = b""
        super().__init__(port)

    @property
    def eof(self):
        return bool(self.ended)

    def took(self, data):
        self.input += data

    def stuff(self, data, most):
        """Sends it repeatedly as long as that does not block; returns the number of bytes."""
        sent = 0
        try:
            while sent < most:
                sent += self.sock.send(data[sent % len(data) :])
        except BlockingIOError:
            pass
        return sent

    def request(self, *fields, method="GET", version="1.1", path="/", host="a"):
        lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def upgrade_fields(self, *more, key=ws.KEY):
        return ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *more)

    def answer(self):
        """The head of an answer: its status, and its fields."""
        self.until(lambda: h1.head(self.input)[0] or self.eof, "an answer")
        head, end = h1.head(self.input)
        self.expect(head, "closed without an answer")
        self.input = self.input[end:]
        return head.status, {name: b", ".join(head.values(name)).decode() for name, _ in head.fields}


class Head(bytes):
    """A HEADERS frame among bytes that become DATA frames."""


class OnStream(Socket):
    """What HTTP/2 and HTTP/3 have in common: the bytes are in DATA frames of one stream. `encoded(fields)`: the frame of a head."""

    SWITCHED, ACCEPT = 200, None

    @property
    def input(self):
        return self.answer_on(self.STREAM).body

    @input.setter
    def input(self, rest):
        self.answer_on(self.STREAM).body = rest

    def request(self, *fields, method="GET", path="/", host="a"):
        lines = [tuple(part.strip() for part in field.split(":", 1)) for field in fields]
        upgrade = [value.split(",")[0] for name, value in lines if name.lower() == "upgrade"]
        pseudo = [(":method", "CONNECT" if upgrade else method), (":authority", host)]
        if upgrade:
            pseudo.append((":protocol", upgrade[0]))
        if method != "CONNECT":
            pseudo += [(":scheme", self.SCHEME), (":path", path)]
        others = [(name.lower(), value) for name, value in lines if name.lower() not in ("upgrade", "connection")]
        return Head(self.encoded(pseudo + others))

    def upgrade_fields(self, *more):
        return ("Upgrade: websocket", "Sec-WebSocket-Version: 13", *more)

    def answer(self):
        self.until(lambda: self.answer_on(self.STREAM).fields or self.eof, "an answer")
        self.expect(self.answer_on(self.STREAM).fields, f"reset without an answer: {self.reset_by}")
        return self.answer_on(self.STREAM).status, dict(self.answer_on(self.STREAM).fields)


class OverHttp2(OnStream, H2):
    """The same bytes in DATA frames of one stream, opened by an extended CONNECT (RFC 8441)."""

    STREAM, SCHEME = STREAM, "http"

    def __init__(self, port):
        super().__init__(port)
        self.transmit(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, WIDE)) + h2.window(0, WIDE - 65535))
        self.until(lambda: self.settings is not None, "SETTINGS")
        self.expect(self.settings.get(h2.ENABLE_CONNECT_PROTOCOL) == 1, "extended CONNECT is not offered")

    @property
    def reset_by(self):
        return self.answer_on(STREAM).reset

    @property
    def eof(self):
        return bool(self.ended or self.goaway or self.reset_by or self.answer_on(STREAM).ended)

    def take(self, kind, flags, stream, payload):
        if kind == h2.DATA:
            self.expect(not self.eof, "DATA after the end")
        super().take(kind, flags, stream, payload)

    # ---- what the client does

    def reset(self):
        self.transmit(h2.rst(STREAM))

    def end(self):
        self.transmit(h2.data(STREAM, end=True))

    def stuff(self, data, most):
        sent, idle = 0, 0
        while sent < most and idle < 3:
            size = self.send_piece(STREAM, data[sent % len(data) :])
            sent += size
            idle = 0 if size else idle + 1
            self.sync()
        return sent

    def send(self, *data):
        for one in data:
            if isinstance(one, Head):
                self.transmit(one)
                continue
            while one and not self.eof:
                self.until(lambda: self.room(STREAM) > 0 or self.eof, "a window")
                one = one[self.send_piece(STREAM, one) :]

    def encoded(self, fields):
        return h2.headers(STREAM, fields)
