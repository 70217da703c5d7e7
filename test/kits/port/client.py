# SPDX-License-Identifier: Apache-2.0
"""The kit's side of the port's sockets: HTTP/1 requests, WebSocket frames.

It shares no codec with test/lib: the kit judges other programs by the RFCs, and is in turn judged with sparx_port. No test would find an error in a codec
that both used.
"""

import re
import socket
import struct
from collections import namedtuple

Response = namedtuple("Response", "status headers body whole")
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


class Client:
    def __init__(self, address, receive_buffer=0):
        self.socket = socket.socket(socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.input, self.output, self.eof, self.reads = b"", b"", False, True

    def fileno(self):
        return self.socket.fileno()

    def send(self, *data):
        self.output += b"".join(data)
        self.flush()
        return self

    def flush(self):
        try:
            while self.output:
                self.output = self.output[self.socket.send(self.output) :]
        except BlockingIOError:
            pass
        except OSError:
            self.output = b""

    def fill(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.input += data
        self.eof = not data

    def close_writing(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.eof = True
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # ---- HTTP/1

    def request(self, method="GET", target="/", *fields, body=b"", version="1.1", host="localhost"):
        lines = [f"{method} {target} HTTP/{version}", *([f"Host: {host}"] if host else []), *fields]
        return self.send("\r\n".join(lines).encode() + b"\r\n\r\n", body)

    def response(self, to_head=False):
        """The next response, or None while it is incomplete. At the end of file an incomplete one is returned with `whole` false."""
        head, mark, rest = self.input.partition(b"\r\n\r\n")
        if not mark:
            return Response(0, {}, head, False) if self.eof else None
        status, headers = int(head.split()[1]), fields_of(head)
        if status < 200 or to_head or status in (204, 304):
            return self.taken(Response(status, headers, b"", True), rest)
        if headers.get("transfer-encoding") == "chunked":
            return self.chunked(status, headers, rest)
        length = int(headers.get("content-length", -1))
        if 0 <= length <= len(rest):
            return self.taken(Response(status, headers, rest[:length], True), rest[length:])
        return Response(status, headers, rest, length < 0) if self.eof else None

    def taken(self, response, rest):
        self.input = rest
        return response

    def chunked(self, status, headers, rest):
        if not self.eof and b"\r\n0\r\n" not in rest[-1000:] and not rest.startswith(b"0\r\n"):
            return None  # the end has not arrived, so the chunks need not be parsed
        body, at = b"", 0
        while line := re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n").match(rest, at):
            size, at = int(line[1], 16), line.end()
            if size == 0:
                end = rest.find(b"\r\n", at) if rest.startswith(b"\r\n", at) else rest.find(b"\r\n\r\n", at) + 2
                if end < at:
                    break
                trailers = {f"trailer {name}": value for name, value in fields_of(b"\r\n" + rest[at:end]).items()}
                return self.taken(Response(status, {**headers, **trailers}, body, True), rest[end + 2 :])
            if len(rest) < at + size + 2:
                break
            body, at = body + rest[at : at + size], at + size + 2
        return Response(status, headers, body, False) if self.eof else None

    # ---- WebSockets

    def frame(self, opcode, payload=b"", fin=True):
        head = bytes([opcode | (0x80 if fin else 0)])
        size = len(payload)
        head += bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0xFE, size) if size < 65536 else struct.pack(">BQ", 0xFF, size)
        mask = (MASK * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
        return self.send(head, MASK, masked)

    def message(self):
        """The next frame or message: (opcode, payload), or None while it is incomplete."""
        whole, first, at = b"", None, 0
        while len(self.input) >= at + 2:
            opcode, size = self.input[at] & 15, self.input[at + 1] & 127
            wide = {126: ">H", 127: ">Q"}.get(size)
            start = at + 2 + (struct.calcsize(wide) if wide else 0)
            if wide and len(self.input) >= start:
                size = struct.unpack_from(wide, self.input, at + 2)[0]
            if len(self.input) < start + size:
                return None
            first = opcode if first is None else first
            whole += self.input[start : start + size]
            if self.input[at] & 0x80:
                self.input = self.input[start + size :]
                return first, whole
            at = start + size
        return None


def fields_of(head):
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.decode().lower(): value.strip().decode("latin-1") for name, _, value in lines}
