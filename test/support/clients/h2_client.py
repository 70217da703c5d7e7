# SPDX-License-Identifier: Apache-2.0
"""A client of python3-h2: `h2_client.py PORT CASE`, and over TLS `h2_client.py PORT CASE AUTHORITY.pem`. It prints nothing and exits with 0 when all was as it should be."""

import os
import socket
import ssl
import struct
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

CHUNK = 16384
AUTHORITY = sys.argv[3] if len(sys.argv) > 3 else None
SCHEME = "https" if AUTHORITY else "http"


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        if AUTHORITY:
            context = ssl.create_default_context(cafile=AUTHORITY)
            context.set_alpn_protocols(["h2"])
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
            assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.streams = {}
        self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def ask(self, method, path, fields=(), end=True):
        head = [(":method", method), (":scheme", SCHEME), (":authority", "localhost"), (":path", path), *fields]
        return self.open(head, end)

    def open(self, head, end=False):
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = {"head": {}, "body": bytearray(), "trailers": {}, "ended": False}
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def read(self):
        data = self.sock.recv(1 << 18)
        assert data, "the server has closed the connection"
        for event in self.h2.receive_data(data):
            stream = self.streams.get(getattr(event, "stream_id", None))
            if isinstance(event, ResponseReceived):
                stream["head"] = dict(event.headers)
            elif isinstance(event, DataReceived):
                stream["body"] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, TrailersReceived):
                stream["trailers"] = dict(event.headers)
            elif isinstance(event, StreamEnded):
                stream["ended"] = True
            elif isinstance(event, StreamReset):
                raise AssertionError(f"stream {event.stream_id} was reset: {event.error_code}")
        self.flush()

    def until(self, reached):
        while not reached():
            self.read()

    def send(self, stream, data, end=False):
        view = memoryview(data)
        while view:
            self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            n = min(self.h2.local_flow_control_window(stream), CHUNK, len(view))
            self.h2.send_data(stream, bytes(view[:n]))
            view = view[n:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def finish(self, stream):
        self.until(lambda: self.streams[stream]["ended"])
        return self.streams[stream]


def echo(client):
    """A body that comes back while it is sent."""
    body = os.urandom(1 << 21)
    stream = client.ask("POST", "/echo", end=False)
    client.send(stream, body, end=True)
    assert client.finish(stream)["body"] == body


def interleaved(client):
    """100 streams, a piece of each in turn."""
    bodies = {client.ask("POST", "/echo", end=False): os.urandom(5000) for _ in range(100)}
    for at in range(0, 5000, 500):
        for stream, body in bodies.items():
            client.send(stream, body[at : at + 500], end=at == 4500)
    for stream, body in bodies.items():
        assert client.finish(stream)["body"] == body, stream


def trailers(client):
    """Messages both ways at once, then trailers both ways: the shape of gRPC."""
    fields = [("te", "trailers"), ("content-type", "application/grpc")]
    stream = client.ask("POST", "/grpc", fields, end=False)
    want = b""
    for n in range(50):
        message = struct.pack(">BI", 0, 4) + struct.pack(">I", n)
        client.send(stream, message)
        want += message
        client.until(lambda: len(client.streams[stream]["body"]) == len(want))
    client.h2.send_headers(stream, [("x-sum", "1225")], end_stream=True)
    client.flush()
    answer = client.finish(stream)
    assert answer["body"] == want and answer["trailers"] == {"grpc-status": "0", "x-got": "1225"}, answer


def websocket(client):
    """RFC 8441."""
    client.until(lambda: client.h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1)
    pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", SCHEME), (":path", "/ws")]
    stream = client.open([*pseudo, (":authority", "localhost"), ("sec-websocket-version", "13")])
    client.until(lambda: client.streams[stream]["head"])
    assert client.streams[stream]["head"][":status"] == "200"
    client.send(stream, b"\x81\x85\0\0\0\0hello")
    client.until(lambda: client.streams[stream]["body"] == b"\x81\x05hello")
    client.send(stream, b"\x88\x82\0\0\0\0\x03\xe8")
    assert client.finish(stream)["body"] == b"\x81\x05hello\x88\x02\x03\xe8"
    client.h2.end_stream(stream)
    client.flush()


if __name__ == "__main__":
    globals()[sys.argv[2]](Client(int(sys.argv[1])))
