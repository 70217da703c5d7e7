# SPDX-License-Identifier: Apache-2.0
"""The cases of WebSockets over HTTP/3: the same bytes in DATA frames of one stream, opened by an extended CONNECT (RFC 9220)."""

from lib import h3, peer3, quic
from lib.peer import Peer
from .sockets import Head, OnStream

STREAM = 0
AS_IN_HTTP2 = {"REQUEST_CANCELLED": "CANCEL", "MESSAGE_ERROR": "PROTOCOL_ERROR", "EXCESSIVE_LOAD": "ENHANCE_YOUR_CALM"}


class Connected:
    """Stands for the base class of the sockets, a connection. Here that is a separate object, since its `send` expects QUIC frames."""

    def __init__(self, port):
        self.port, self.connection = port, peer3.H3(port, name=None)

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def seen(self):
        return self.connection.seen()


class OverHttp3(OnStream, Connected):
    STREAM, SCHEME = STREAM, "https"

    def __init__(self, port):
        super().__init__(port)
        self.connection.open((h3.CONNECT_PROTOCOL, 1))
        self.expect(self.connection.settings.get(h3.CONNECT_PROTOCOL) == 1, "extended CONNECT is not offered")

    @property
    def reset_by(self):
        code = self.connection.reset_code(STREAM)
        return AS_IN_HTTP2.get(code, code)

    @property
    def eof(self):
        return bool(self.connection.closed or self.reset_by or self.connection.ended(STREAM))

    @property
    def ended(self):
        return self.eof

    def sync(self):
        if self.connection.sock.fileno() >= 0 and not self.connection.closed:
            return self.connection.sync()
        self.port.ping()
        self.until(lambda: self.port.pongs == self.port.pings, "PONG")

    # ---- what the client does

    def close(self):
        self.connection.leave()

    def reset(self):
        sent = self.connection.offsets.get(STREAM, 0)
        self.connection.send(quic.reset_stream(STREAM, h3.CODES["REQUEST_CANCELLED"], sent), quic.stop_sending(STREAM, h3.CODES["REQUEST_CANCELLED"]))

    def end(self):
        self.connection.send_stream(STREAM, b"", True)

    send_cut, send_pieces = Peer.send_cut, Peer.send_pieces

    def room(self):
        c = self.connection
        limit = c.stream_limits.get(STREAM, c.first_limit(STREAM))
        return max(0, min(limit - c.offsets.get(STREAM, 0), c.limits["data"] - c.spent, 1100) - 3)

    def stuff(self, data, most):
        sent, idle = 0, 0
        while sent < most and idle < 3:
            piece = data[sent % len(data) :][: min(self.room(), most - sent)]
            if piece:
                self.connection.send_stream(STREAM, h3.data(piece))
            sent += len(piece)
            idle = 0 if piece else idle + 1
            self.sync()
        return sent

    def transmit(self, *data):
        self.send(*data)

    def send(self, *data):
        for one in data:
            if isinstance(one, Head):
                self.connection.send_stream(STREAM, one)
            elif one and not self.eof:
                self.connection.send_stream(STREAM, h3.data(one))

    def encoded(self, fields):
        return h3.headers(fields)
