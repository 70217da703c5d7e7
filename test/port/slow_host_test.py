#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program with a host that does not read its pipe: what waits for the host is bounded by `max_link`, and nothing else
waits for it. Run by `make -C port test`; or SPARX_PORT=priv/sparx_port test/port/slow_host_test.py."""

import os
import pathlib
import select
import socket
import sys
import threading
import unittest

TEST = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TEST)]

from lib import host as suite  # noqa: E402

PROGRAM = os.environ.get("SPARX_PORT") or str(TEST.parent / "priv" / "sparx_port")
SIZE = 64 * 2**20
BLOCK = bytes(65536)


class Host(suite.Port):
    """Counts bodies instead of keeping them."""

    counted = 0

    def take_event(self, exchange, kind, rest):
        if kind == suite.BODY:
            self.counted += len(rest[1])
        else:
            super().take_event(exchange, kind, rest)


class SlowHost(unittest.TestCase):
    def setUp(self):
        self.host = Host(PROGRAM, {"max_link": 131072}, 10)
        self.addCleanup(self.host.stop)

    def connect(self, text):
        client = socket.create_connection(self.host.address, 60)
        self.addCleanup(client.close)
        client.sendall(text)
        return client

    def test_an_upload_stands_still_and_answers_go_on(self):
        upload = [("read", ["100000"], [], b""), ("wait", ["end"], [], b""), ("respond", ["200"], [], b"counted")]
        self.host.begin([upload, [("wait", ["go"], [], b""), ("respond", ["200"], [], b"meanwhile")]])
        loader = self.connect(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
        self.host.until(lambda: len(self.host.exchanges) == 1)
        other = self.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.host.until(lambda: len(self.host.exchanges) == 2)

        # The host has granted credit for all of it, but no longer reads: only as much as fits the buffers is read from the client.
        sent = self.send_until_it_stands_still(loader)
        self.assertLess(sent, SIZE // 4)

        # The port still reads from the host, and serves other clients.
        self.host.go()
        self.assertIn(b"meanwhile", self.receive(other, b"meanwhile"))
        self.assertEqual(self.host.counted, 0)

        # The host reads again: nothing is lost.
        loader.settimeout(60)
        rest = threading.Thread(target=self.send, args=(loader, SIZE - sent))
        rest.start()
        self.host.until(lambda: self.host.exchanges[0].ended)
        rest.join()
        self.assertEqual(self.host.counted, SIZE)
        self.assertIn(b"counted", self.receive(loader, b"counted"))

    def send_until_it_stands_still(self, client):
        client.setblocking(False)
        sent = 0
        while sent < SIZE and select.select([], [client], [], 0.3)[1]:
            sent += client.send(BLOCK[: SIZE - sent])
        return sent

    def send(self, client, left):
        while left > 0:
            left -= client.send(BLOCK[:left])

    def receive(self, client, until):
        client.settimeout(60)
        answer = b""
        while until not in answer:
            answer += client.recv(65536) or self.fail(f"closed behind {answer!r}")
        return answer


if __name__ == "__main__":
    unittest.main()
