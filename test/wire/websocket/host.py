# SPDX-License-Identifier: Apache-2.0
"""A host that upgrades every request that asks for it, and echoes or does nothing."""

from lib import mp, ws
from lib.program import ABORT, ERROR, READ, RECV, REQUEST, SEND, UPGRADE, DEMAND, Program


class Port(Program):
    """The program, with this host."""

    def __init__(self, path, hello=None):
        self.begin(None)
        super().__init__(path, hello)
        self.send([DEMAND, 1 << 20])

    def begin(self, case, upgrade="websocket"):
        self.case, self.upgrade = case, upgrade
        self.heard, self.errors = [], []
        self.stream, self.head, self.partial = None, None, b""

    def note(self, kind, rest):
        """The cases name an ERROR's field and rule."""
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
            if rest[0] < ws.CLOSE:
                self.send_message(rest[0], rest[1])
            self.send([READ, self.stream, 1, 65000])

    def send_message(self, opcode, data):
        """The default window is larger than any piece, and than the messages of the cases."""
        pieces = ws.cut(data, 60000)
        left = len(data)
        for piece in pieces:
            left -= len(piece)
            self.send([SEND, self.stream, opcode, piece, left])
