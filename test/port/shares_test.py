#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fair shares of demand, over real sockets: a new peer always finds room. Run by `make -C port test`; or
SPARX_PORT=priv/sparx_port test/port/shares_test.py."""

import os
import pathlib
import socket
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lib.program import DATA, DEMAND, GONE, HEAD, PATH, READ, RELEASE, REQUEST, RESPOND, ROOM, YIELD, Program  # noqa: E402

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ASKED = b"GET /answer HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE = 60.0  # s


class Host(Program):
    """Answers /answer; never finishes anything else, and sends as much as there is room for once it has begun."""

    def __init__(self, options=None):
        self.working, self.gone, self.answered = [], [], 0
        super().__init__(os.environ.get("SPARX_PORT") or PATH, options)

    def take(self, kind, rest):
        if kind == REQUEST and b"/answer" in rest[1]:
            self.answered += 1
            self.send([RESPOND, rest[0], 200, [], b"ok"], [DEMAND, 1])
        elif kind == REQUEST:
            self.working.append(rest[0])
        elif kind == ROOM:
            self.send([DATA, rest[0], bytes(rest[1])])
        elif kind == GONE:
            self.gone.append(rest[0])

    def figure(self, name):
        return self.ask_figures()[name]

    def ask_until(self, name, value):
        self.figures_until(lambda figures: figures[name] == value)


class Shares(unittest.TestCase):
    def host(self, demand, **options):
        host = Host({"queue_timeout": 60000, **options})
        self.addCleanup(host.stop)
        host.send([DEMAND, demand])
        return host

    def client(self, host, source="127.0.0.1", sends=b""):
        client = socket.create_connection(host.address, PATIENCE, (source, 0))
        self.addCleanup(client.close)
        client.sendall(sends)
        return client

    def assert_answered(self, host, client, sends=ASKED):
        client.sendall(sends)
        answered = host.answered
        host.until(lambda: host.answered > answered)
        self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200 "))

    def assert_working(self, host, count, queued):
        """This many are in progress, and this many wait although there is demand."""
        host.until(lambda: len(host.working) >= count)
        host.ask_until("queued", queued)
        self.assertEqual((len(host.working), host.figure("queued"), host.figure("held_back")), (count, queued, queued))

    def test_one_address_has_two_thirds_and_the_next_one_finds_room(self):
        host = self.host(9)
        for _ in range(20):
            self.client(host, "127.0.0.2", GET)
        self.assert_working(host, 6, 14)
        self.assert_answered(host, self.client(host))
        kept = self.client(host, "127.0.0.3")
        for _ in range(3):
            self.assert_answered(host, kept)
        self.assertEqual(len(host.working), 6)

    def test_to_come_and_go_gets_nobody_more(self):
        host = self.host(9)
        for n in range(6):
            client = self.client(host, "127.0.0.2", GET)
            host.until(lambda: len(host.working) > n)  # noqa: B023
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        host.until(lambda: len(host.gone) == 6)
        for _ in range(5):
            self.client(host, "127.0.0.2", GET)
        host.ask_until("queued", 5)
        self.assertEqual(len(host.working), 6)
        self.assert_answered(host, self.client(host))
        host.send([RELEASE, host.gone[0]])
        host.until(lambda: len(host.working) == 7)

    def test_work_that_waits_for_its_client_needs_no_share(self):
        host = self.host(9)
        for _ in range(8):
            self.client(host, "127.0.0.2", GET)
        self.assert_working(host, 6, 2)
        host.send([YIELD, host.working[0]])
        host.until(lambda: len(host.working) == 7)
        self.assertEqual(host.figure("queued"), 1)

    def test_clients_of_a_trusted_proxy_are_peers_of_their_own(self):
        host = self.host(9, trusted_proxies=["127.0.0.1"])
        proxy = [b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: spoofed, %s\r\n\r\n" % ip for ip in (b"192.0.2.1", b"192.0.2.2")]
        for _ in range(10):
            self.client(host, sends=proxy[0])
        self.assert_working(host, 6, 4)
        self.client(host, sends=proxy[1])
        host.until(lambda: len(host.working) == 7)

    def test_nobody_else_is_believed(self):
        host = self.host(9, trusted_proxies=["127.0.0.9"])
        for n in range(10):
            self.client(host, "127.0.0.2", b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n" % n)
        self.assert_working(host, 6, 4)

    def test_each_connection_of_a_unix_socket_is_a_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/s"
        host = self.host(6, listeners=[{"address": f"unix:{path}", "port": 0}])
        for _ in range(6):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.connect(path)
            client.sendall(GET)
        host.until(lambda: len(host.working) == 6)

    def test_without_shares_one_address_may_have_all(self):
        host = self.host(9, share=0)
        for _ in range(9):
            self.client(host, "127.0.0.2", GET)
        host.until(lambda: len(host.working) == 9)

    def test_a_crowd_that_does_not_read_makes_room_in_the_end(self):
        host = self.host(100, max_connections=8, share=0)
        for _ in range(8):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(host.address)
            client.sendall(GET)
        host.until(lambda: len(host.working) == 8)
        for stream in host.working:
            host.send([HEAD, stream, 200, [], None], *[[DATA, stream, bytes(65536)]] * 4)
        host.pump_until_quiet()  # the kernel accepts no more from any of them
        self.assert_answered(host, self.client(host))
        self.assertGreaterEqual(len(host.gone), 1)

    def test_a_crowd_that_does_not_send_its_bodies_makes_room_in_the_end(self):
        host = self.host(100, max_connections=8, share=0)
        for _ in range(8):
            self.client(host, sends=b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx")
        host.until(lambda: len(host.working) == 8)
        for stream in host.working:
            host.send([READ, stream, 10, 1000])
        self.assert_answered(host, self.client(host))
        self.assertGreaterEqual(len(host.gone), 1)


if __name__ == "__main__":
    unittest.main()
