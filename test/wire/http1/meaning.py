# SPDX-License-Identifier: Apache-2.0
"""The meaning of a case in versions of HTTP that are not text: its bytes as requests on streams (RFC 9113 8.3, RFC 9114 4.3).

`Reader` takes the bytes of a client and gives events: ("head", fields, ended), ("body", data), ("end", trailers).
`Textual` is raised if the bytes are about the text of HTTP/1, which has no counterpart in the other versions.
"""

import re

LINE = re.compile(rb"([^ ]+) ([^ ]+) HTTP/1\.1\Z")
ABSOLUTE = re.compile(rb"(https?)://([^/?]+)(.*)\Z", re.I)
OF_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"}


class Textual(Exception):
    pass


class Reader:
    def __init__(self):
        self.data = b""
        self.state = self.head
        self.left = 0  # bytes of the body
        self.methods = []

    def feed(self, data):
        self.data += data
        events = []
        while (event := self.state()) is not None:
            events += event
        return events

    def finish(self):
        """No more comes."""
        if self.state == self.chunk or (self.state == self.head and self.data):
            raise Textual("a part of a message")

    def block(self):
        """Lines up to the empty one; None: that has not arrived."""
        if self.data.startswith(b"\r\n"):
            end = 0
        elif (end := self.data.find(b"\r\n\r\n")) < 0:
            return None
        lines, self.data = self.data[:end].split(b"\r\n") if end else [], self.data[end + (4 if end else 2) :]
        if any(b"\n" in line for line in lines):
            raise Textual("ends of lines")
        return lines

    def head(self):
        lines = self.block()
        if lines is None:
            return None
        match = lines and LINE.match(lines[0])
        if not match:
            raise Textual("the request line")
        method, target = match.groups()
        fields = [field(line) for line in lines[1:]]
        self.methods.append(method.decode("latin-1"))
        length = self.framing(fields)
        head = pseudo(method, target, fields) + [pair for pair in fields if pair[0] not in OF_CONNECTION | {b"host"}]
        self.state, self.left = (self.chunk, 0) if length is None else (self.body, length) if length else (self.head, 0)
        return [("head", head, self.state == self.head)]

    def framing(self, fields):
        """The length of the body; None: it is chunked."""
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        lengths = [value for name, value in fields if name == b"content-length"]
        if codings and (lengths or codings != [b"chunked"]):
            raise Textual("the framing")
        if any(name == b"upgrade" for name, _ in fields):
            raise Textual("an upgrade")
        if len(lengths) == 1 and lengths[0].isdigit():
            return int(lengths[0])
        return None if codings else 0

    def body(self):
        piece, self.data = self.data[: self.left], self.data[self.left :]
        self.left -= len(piece)
        if self.left == 0:
            self.state = self.head
            return [("body", piece), ("end", [])]
        return [("body", piece)] if piece else None

    def chunk(self):
        line, found, rest = self.data.partition(b"\r\n")
        if not found:
            return None
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", line):
            raise Textual("a chunk's line")
        size = int(line, 16)
        if size == 0:
            return self.trailers(rest)
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Textual("the end of a chunk")
        self.data = rest[size + 2 :]
        return [("body", rest[:size])]

    def trailers(self, rest):
        before, self.data = self.data, rest
        lines = self.block()
        if lines is None:
            self.data = before
            return None
        self.state = self.head
        return [("end", [field(line) for line in lines])]


def field(line):
    name, colon, value = line.partition(b":")
    if not colon or line[:1] in (b" ", b"\t"):
        raise Textual("a line that is not a field")
    return name.lower(), value.strip(b" \t")


def pseudo(method, target, fields):
    """The fields that replace the request line and Host."""
    hosts = [value for name, value in fields if name == b"host"]
    if method == b"CONNECT":
        raise Textual("CONNECT")
    scheme, authority, path = b"http", None, target
    if match := ABSOLUTE.match(target):
        scheme, authority, path = match[1].lower(), match[2], match[3]
        if not path.startswith(b"/"):
            path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    if len(hosts) != 1 or authority not in (None, hosts[0]):
        raise Textual("Host")
    return [(b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", hosts[0])]
