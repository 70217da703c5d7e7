"""The client over HTTP/2: the same bytes in DATA frames of one stream, opened by an extended CONNECT (RFC 8441)."""

import struct

from lib import h2

from . import peer

STREAM, FRAME_MAX, WIDE = 1, 16384, 0x7FFFFFFF


class Head(bytes):
    """A HEADERS frame among bytes that are to go into DATA frames."""


class Peer(peer.Peer):
    SWITCHED, ACCEPT = 200, None

    def __init__(self, port, case):
        super().__init__(port, case)
        self.frames, self.decoder, self.block, self.fields_seen = b"", h2.Decoder(), b"", None
        self.windows, self.settings, self.reset_by = {0: 65535, STREAM: 65535}, None, None
        self.transmit(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, WIDE)) + h2.window(0, WIDE - 65535))
        self.wait(lambda: self.settings is not None, "SETTINGS")
        self.expect(self.settings.get(h2.ENABLE_CONNECT_PROTOCOL) == 1, "extended CONNECT is not offered")

    def reset(self):
        self.transmit(h2.rst(STREAM))

    def ends(self):
        self.transmit(h2.data(STREAM, end=True))

    # ---- receiving

    def receive(self, data):
        if not data:
            self.eof = True
        taken, self.frames = h2.split(self.frames + data)
        for one in taken:
            self.take(*one)

    def take(self, kind, flags, stream, payload):
        if kind == h2.SETTINGS and not flags & h2.ACK:
            self.settings = dict(struct.iter_unpack(">HI", payload))
            self.windows[STREAM] += self.settings.get(h2.INITIAL_WINDOW_SIZE, 65535) - 65535
            self.transmit(h2.settings(ack=True))
        elif kind == h2.WINDOW_UPDATE:
            self.windows[stream] += struct.unpack(">I", payload)[0]
        elif kind == h2.HEADERS:
            self.fields_seen = self.decoder.decode(payload)
        elif kind == h2.DATA:
            self.expect(not self.eof, "DATA after the end")
            self.input += payload
        elif kind == h2.RST_STREAM:
            self.reset_by = h2.ERRORS[struct.unpack(">I", payload)[0]]
        ended = kind in (h2.DATA, h2.HEADERS) and flags & h2.END_STREAM
        self.eof = self.eof or bool(ended) or kind in (h2.RST_STREAM, h2.GOAWAY)

    # ---- what the client does

    def room(self):
        return min(self.windows[0], self.windows[STREAM], FRAME_MAX)

    def send_piece(self, data):
        """As much as one frame and the windows take; how many bytes that is."""
        size = min(self.room(), len(data))
        self.windows[0] -= size
        self.windows[STREAM] -= size
        if size:
            self.transmit(h2.data(STREAM, data[:size]))
        return size

    def stuff(self, data, most):
        sent, idle = 0, 0
        while sent < most and idle < 3:
            size = self.send_piece(data[sent % len(data) :])
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
                self.wait(lambda: self.room() or self.eof, "a window")
                one = one[self.send_piece(one) :]

    def request(self, *fields, method="GET", path="/", host="a"):
        lines = [tuple(part.strip() for part in field.split(":", 1)) for field in fields]
        upgrade = [value.split(",")[0] for name, value in lines if name.lower() == "upgrade"]
        pseudo = [(":method", "CONNECT" if upgrade else method), (":authority", host)]
        if upgrade:
            pseudo.append((":protocol", upgrade[0]))
        if method != "CONNECT":
            pseudo += [(":scheme", "http"), (":path", path)]
        others = [(name.lower(), value) for name, value in lines if name.lower() not in ("upgrade", "connection")]
        return Head(h2.headers(STREAM, pseudo + others))

    def upgrade_fields(self, *more):
        return ("Upgrade: websocket", "Sec-WebSocket-Version: 13", *more)

    def answer(self):
        self.wait(lambda: self.fields_seen or self.eof, "an answer")
        self.expect(self.fields_seen, f"reset without an answer: {self.reset_by}")
        fields = {name: value for name, value in self.fields_seen}
        return int(fields[":status"]), fields
