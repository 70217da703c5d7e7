#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client that does not read: the bytes stored for it are bounded, in the program by `window`, and in the kernel to little more than the client's own
window. Run by `make -C port test`; or SPARX_PORT=priv/sparx_port test/port/slow_client_test.py."""

import os
import pathlib
import select
import socket
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lib.program import DATA, DEMAND, GONE, HEAD, PATH, REQUEST, ROOM, Program  # noqa: E402

WINDOW = 524288
RATE = 12_000  # bytes per second that it reads, and that it must read
LEAST = 4_000


class Host(Program):
    """Answers with as much as there is room for."""

    gone = None

    def take(self, kind, rest):
        if kind == GONE:
            self.gone = rest[1]
        elif kind == REQUEST:
            self.send([HEAD, rest[0], 200, [], None], *[[DATA, rest[0], bytes(65536)]] * (WINDOW // 65536))
        elif kind == ROOM:
            self.send([DATA, rest[0], bytes(rest[1])])


@unittest.skipIf(os.environ.get("PORTABLE"), "only Linux can be told to store few unsent bytes")
class SlowClient(unittest.TestCase):
    def test_one_that_does_not_read(self):
        host = Host(os.environ.get("SPARX_PORT") or PATH)
        self.addCleanup(host.stop)
        host.send([DEMAND, 1])
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(host.address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        host.pump()  # the request

        host.pump_until_quiet()
        host.ask_figures()
        self.assertGreater(host.figures["bytes_out"], 0)
        self.assertLess(host.figures["bytes_out"], 1 << 20)
        self.assertLessEqual(host.figures["body_queued"], WINDOW)

    def test_one_that_reads_faster_than_it_must_is_not_cut_though_the_kernel_has_room_seldom(self):
        """64 KiB must leave before there is room again, which takes longer than write_timeout."""
        host = Host(os.environ.get("SPARX_PORT") or PATH, {"response_rate": LEAST, "write_timeout": 3000})
        self.addCleanup(host.stop)
        host.send([DEMAND, 1])
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(host.address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        host.pump()
        began, taken = time.monotonic(), 0
        while taken < 5 * RATE:
            owed = int(RATE * (time.monotonic() - began)) - taken  # more, if this process had to wait for its turn
            taken += len(client.recv(max(RATE // 20, owed)))
            if select.select([host.out], [], [], 1 / 20)[0]:
                host.pump()
            self.assertIsNone(host.gone)
        while host.gone is None:  # it reads no more
            host.pump()
        self.assertEqual(host.gone, "timeout")


if __name__ == "__main__":
    unittest.main()
