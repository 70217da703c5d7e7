# SPDX-License-Identifier: Apache-2.0
"""A client of sparx_port in the same thread as its host: while it waits, it lets the host continue."""

import select
import socket
import struct
import time

from . import h1, h2

PATIENCE = 60.0  # s: how long to wait for what must come, however slow the machine is
FRAME_MAX, WIDE = 16384, 0x7FFFFFFF
QUIET = 0.15  # s: how long to wait for what must not come


class Wrong(Exception):
    """What a case expected did not happen."""


class Waits:
    """A client must have `step(seconds)`, which lets it and the host continue, `gone` (whether the connection has ended), and `seen()` (what was
    received)."""

    def until(self, reached, what, patience=PATIENCE):
        end = time.monotonic() + patience
        while not reached():
            left = end - time.monotonic()
            if left <= 0:
                raise Wrong(f"did not happen: {what}; {self.seen()}")
            self.step(left)

    def quiet(self, seconds=QUIET):
        """Time passes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.gone:
            self.step(left)

    def expect(self, fine, what):
        if not fine:
            raise Wrong(f"{what}; {self.seen()}")


class Peer(Waits):
    """A connection. Received bytes go to `took`, which each version of HTTP implements."""

    def __init__(self, port):
        self.port = port
        self.sock = socket.create_connection(port.address, PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.ended = None  # "eof", "reset"
        self.reads = True

    def took(self, data):
        """Bytes of the server; empty when it has ended the connection."""
        raise NotImplementedError

    def seen(self):
        """For the text of a failure."""
        return f"the connection is {self.ended or 'open'}"

    # ---- leaving

    @property
    def gone(self):
        return bool(self.ended)

    def end(self):
        """Its own side."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.ended = self.ended or "left"
        self.sock.close()

    def leave(self):
        self.close()

    def reset(self):
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # ---- waiting

    def listens(self):
        return self.reads and not self.ended

    def step(self, timeout, writes=False):
        """Waits for one event, and lets the host and this client continue."""
        sources = [self.port.out, self.sock] if self.listens() else [self.port.out]
        ready, _, _ = select.select(sources, [self.sock] if writes else [], [], max(timeout, 0))
        if self.port.out in ready:
            self.port.pump()
        if self.sock in ready:
            self.receive()

    def receive(self):
        try:
            data = self.sock.recv(1 << 18)
            self.ended = None if data else "eof"
        except BlockingIOError:
            return
        except OSError:
            data, self.ended = b"", "reset"
        self.took(data)

    def sync(self):
        """Waits until the port has read everything that was sent, and its answers have arrived."""
        self.port.ping()
        self.until(lambda: self.port.pongs == self.port.pings, "PONG")
        while self.listens() and select.select([self.sock], [], [], 0)[0]:
            self.receive()

    # ---- sending

    def send(self, *parts):
        self.transmit(b"".join(parts))

    def transmit(self, data):
        """Sends everything, unless the server ends the connection, which shows in what is received."""
        end = time.monotonic() + PATIENCE
        while data and not self.ended:
            try:
                data = data[self.sock.send(data) :]
                end = time.monotonic() + PATIENCE
            except BlockingIOError:
                self.expect(time.monotonic() < end, "the server does not read")
                self.step(end - time.monotonic(), writes=True)
            except OSError:
                return

    def send_cut(self, data, size=1):
        self.send_pieces(data[at : at + size] for at in range(0, len(data), size))

    def send_pieces(self, pieces):
        """Sends each piece only after the previous one was read."""
        for piece in pieces:
            if self.ended:
                return
            self.send(piece)
            self.sync()


class H1(Peer):
    """Keeps everything that was received. methods: the methods of the requests, which are needed to parse the answers."""

    def __init__(self, port, methods=()):
        self.methods, self.data, self.parsed = methods, b"", None
        super().__init__(port)

    def took(self, data):
        self.data, self.parsed = self.data + data, None

    @property
    def responses(self):
        if self.parsed is None:
            try:
                self.parsed = h1.parse(self.data, self.methods, self.ended)
            except h1.Malformed as malformed:
                raise Wrong(f"the server sent: {malformed}") from None
        return self.parsed

    def whole(self):
        return sum(response.whole for response in self.responses)

    def seen(self):
        return f"answers so far {[response.status for response in self.responses]}, {super().seen()}"


class Answer:
    """The answer on a stream. trailers: None until there are some; reset: the name of the error."""

    def __init__(self):
        self.infos, self.fields, self.body, self.trailers = [], None, b"", None
        self.promise = None
        self.frames = 0  # with parts of the body
        self.ended = False
        self.reset = None

    @property
    def status(self):
        return self.fields and int(dict(self.fields)[":status"])

    def get(self, name):
        return next((value for key, value in self.fields if key == name), None)

    def head(self, fields):
        if self.fields is not None:
            self.trailers = fields
        elif int(dict(fields)[":status"]) < 200:
            self.infos.append(fields)
        else:
            self.fields = fields


class Streams(Waits):
    """For clients whose answers come on streams: `answers`, by stream number."""

    ANSWER = Answer

    def answer_on(self, stream):
        return self.answers.setdefault(stream, self.ANSWER())

    def seen(self):
        streams = {i: (a.status, a.body[:40], a.ended, a.reset) for i, a in self.answers.items()}
        return f"streams {streams}, {super().seen()}"

    def expect_reset(self, stream, *codes):
        self.until(lambda: stream in self.answers and self.answers[stream].reset, f"reset of {stream}")
        self.expect(self.answers[stream].reset in codes, f"not a reset with {codes}")

    def expect_answer(self, stream, status=200, body=None):
        def there():
            answer = self.answers.get(stream)
            return answer and (answer.ended or answer.reset)

        self.until(there, f"answer on {stream}")
        answer = self.answers[stream]
        self.expect(answer.ended and answer.status == status, f"not a whole {status} on {stream}")
        self.expect(body is None or answer.body == body, f"another body on {stream}: {answer.body[:80]!r}")
        return answer

    def wait_request(self, count=1):
        self.until(lambda: len(self.port.exchanges) >= count, f"{count} requests at the host")
        return self.port.exchanges[count - 1]

    def no_request(self):
        self.expect(not self.port.exchanges, "a request reached the host")


class H2(Streams, Peer):
    """Sends the given frames; it does not open windows by itself."""

    def __init__(self, port):
        self.answers = {}
        self.rest = b""  # of a frame that is not whole
        self.block = None
        self.decoder = h2.Decoder()
        self.frames, self.pongs = [], []
        self.settings = self.goaway = self.last = None
        self.acked = False
        self.last_stream = -1
        self.acks = True
        self.credit = {}  # by stream: the sum of WINDOW_UPDATE
        self.sent = {}  # by stream, 0 is all: bytes of bodies
        super().__init__(port)

    def open(self, *pairs):
        """Sends the preface and SETTINGS, and reads the answers."""
        self.send(h2.PREFACE, h2.settings(*pairs))
        self.until(lambda: self.settings is not None and self.acked, "SETTINGS")
        return self

    # ---- sending

    def ask(self, stream, fields, end=True):
        self.send(h2.headers(stream, fields, end=end))

    def window(self, stream):
        """The server's window for a stream; 0: for all."""
        begin = self.settings.get(h2.INITIAL_WINDOW_SIZE, 65535) if stream else 65535
        return begin + self.credit.get(stream, 0) - self.sent.get(stream, 0)

    def room(self, stream):
        """The longest DATA frame that may be sent now."""
        return min(self.window(0), self.window(stream), FRAME_MAX)

    def send_piece(self, stream, data, end=False):
        """Sends as much as one frame and the windows allow; returns how many bytes."""
        size = min(self.room(stream), len(data))
        for which in (0, stream):
            self.sent[which] = self.sent.get(which, 0) + size
        if size or end:
            self.transmit(h2.data(stream, data[:size], end=end and size == len(data)))
        return size

    # Functions of the versions that carry requests on streams: open_wide, next_stream, send_head, send_body, send_trailers.

    def open_wide(self):
        """Opens a connection with windows for every answer."""
        self.open((h2.INITIAL_WINDOW_SIZE, WIDE))
        self.transmit(h2.window(0, WIDE - 65535))

    def next_stream(self):
        self.last_stream += 2
        return self.last_stream

    def send_head(self, stream, fields, end):
        block = h2.encode(fields)
        first, rest = block[:FRAME_MAX], [block[at : at + FRAME_MAX] for at in range(FRAME_MAX, len(block), FRAME_MAX)]
        frames = [h2.headers(stream, first, end=end, flags=0 if rest else h2.END_HEADERS)]
        frames += [h2.continuation(stream, piece, end=i == len(rest) - 1) for i, piece in enumerate(rest)]
        self.transmit(b"".join(frames))

    def send_body(self, stream, data, end):
        """Sends as the windows open, until the server answers or resets."""
        answer = self.answer_on(stream)
        over = lambda: self.ended or answer.reset or answer.ended  # noqa: E731
        while (data or end) and not over():
            self.until(lambda: self.room(stream) > 0 or not data or over(), "a window")
            size = self.send_piece(stream, data, end) if not over() else 0
            end = end and size < len(data)
            data = data[size:]

    def send_trailers(self, stream, fields):
        self.send_head(stream, fields, end=True)

    # ---- receiving

    def took(self, data):
        frames, self.rest = h2.split(self.rest + data)
        for one in frames:
            self.take(*one)

    def take(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, payload))
        answer = self.answer_on(stream) if stream else None
        if kind == h2.SETTINGS:
            self.take_settings(flags, payload)
        elif kind == h2.PING and flags & h2.ACK:
            self.pongs.append(payload)
        elif kind == h2.PING:
            self.transmit(h2.ping(payload, True))
        elif kind == h2.GOAWAY:
            self.last, code = struct.unpack(">II", payload[:8])
            self.goaway = h2.ERRORS[code]
        elif kind == h2.RST_STREAM:
            answer.reset = h2.ERRORS[struct.unpack(">I", payload)[0]]
        elif kind == h2.DATA:
            answer.body += payload
            answer.frames += 1
        elif kind == h2.WINDOW_UPDATE:
            self.credit[stream] = self.credit.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind in (h2.HEADERS, h2.CONTINUATION, h2.PUSH_PROMISE):
            self.take_block(kind, flags, stream, payload)
        if answer and kind in (h2.DATA, h2.HEADERS) and flags & h2.END_STREAM:
            answer.ended = True

    def take_settings(self, flags, payload):
        if flags & h2.ACK:
            self.acked = True
            return
        self.settings = dict(struct.iter_unpack(">HI", payload))
        if self.acks:
            self.transmit(h2.settings(ack=True))

    def take_block(self, kind, flags, stream, payload):
        if kind != h2.CONTINUATION:
            self.block = (kind, stream, b"")
        kind, stream, block = self.block
        self.block = (kind, stream, block + payload)
        if not flags & h2.END_HEADERS:
            return
        block = self.block[2]
        if kind == h2.PUSH_PROMISE:
            self.answer_on(struct.unpack(">I", block[:4])[0]).promise = self.decoder.decode(block[4:])
        else:
            self.answer_on(stream).head(self.decoder.decode(block))

    # ---- expecting

    def seen(self):
        return f"GOAWAY {self.goaway}, {super().seen()}"

    def expect_goaway(self, *codes):
        self.until(lambda: self.goaway or self.ended, "GOAWAY")
        self.expect(self.goaway in codes, f"not GOAWAY {codes}")
        self.expect_closed()

    def expect_closed(self):
        self.until(lambda: self.ended, "close")

    def expect_alive(self):
        """Checks that the connection still works."""
        self.send(h2.ping(b"alive?!?"))
        self.until(lambda: b"alive?!?" in self.pongs, "PING answered")


__all__ = ["H1", "H2", "PATIENCE", "WIDE", "Answer", "Peer", "Streams", "Wrong"]
