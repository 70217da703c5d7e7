#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sockets to listen on that the host hands over (PROTOCOL.md, section 3.6). Run by `make -C port test`; or
SPARX_PORT=priv/sparx_port test/port/listeners_test.py."""

import contextlib
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lib import mp  # noqa: E402
from lib.program import DEMAND, DRAIN, PATH, PING, REQUEST, RESPOND, PortDied, Program  # noqa: E402

LISTENER = 1
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Host(Program):
    """Passes the descriptors of `packets` as soon as the port has connected, and answers all requests."""

    def __init__(self, listeners, packets, **options):
        folder = tempfile.TemporaryDirectory()
        path = f"{folder.name}/s"
        waits = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waits.bind(path)
        waits.listen(1)
        self.channel = None

        def hand_over():
            with contextlib.suppress(OSError):
                self.channel, _ = waits.accept()
                for packet, fds in packets:
                    socket.send_fds(self.channel, [mp.encode(packet)], fds)

        thread = threading.Thread(target=hand_over, daemon=True)
        thread.start()
        try:
            super().__init__(
                os.environ.get("SPARX_PORT") or PATH, {"listeners": listeners, "descriptors": path, **options}
            )
        except PortDied:
            self.stop()
            waits.shutdown(socket.SHUT_RDWR)
            thread.join()
            if self.channel:
                self.channel.close()
            raise
        finally:
            thread.join()
            waits.close()
            folder.cleanup()
        self.send([DEMAND, 100])

    held = None  # a list: of requests that are not answered

    def take(self, kind, rest):
        if kind == REQUEST and self.held is not None:
            self.held.append(rest[0])
        elif kind == REQUEST:
            self.send([RESPOND, rest[0], 200, [], b"ok"])


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    s = socket.socket(family)
    s.bind(address)
    s.listen(64)
    return s


@unittest.skipIf(os.environ.get("PORTABLE"), "there is no channel for descriptors")
class Listeners(unittest.TestCase):
    def host(self, *args, **options):
        host = Host(*args, **options)
        self.addCleanup(host.stop)
        self.addCleanup(host.channel.close)
        return host

    def listening(self, *args):
        s = listening(*args)
        self.addCleanup(s.close)
        return s

    def ask(self, host, address, family=socket.AF_INET):
        client = socket.socket(family)
        self.addCleanup(client.close)
        client.settimeout(60)
        client.connect(address)
        client.sendall(GET)
        host.pump()
        return client.recv(4096)

    def refusal(self, listeners, packets):
        with self.assertRaises(PortDied) as died:
            Host(listeners, packets)
        self.assertIn("status 2", str(died.exception))
        return str(died.exception)

    def test_it_listens_on_what_it_was_given_and_names_it(self):
        s = self.listening()
        host = self.host([{"descriptor": 7}], [([LISTENER, 7, 0], [s.fileno()])])
        self.assertEqual(host.ready["listeners"], [{"address": "127.0.0.1", "port": s.getsockname()[1]}])
        self.assertTrue(self.ask(host, s.getsockname()).startswith(b"HTTP/1.1 200 "))

    def test_beside_one_that_it_binds_in_any_order(self):
        first, second = self.listening(), self.listening(socket.AF_INET6, ("::1", 0))
        packets = [([LISTENER, 2, 0], [second.fileno()]), ([LISTENER, 1, 0], [first.fileno()])]
        bound = {"address": "127.0.0.1", "port": 0}
        host = self.host([{"descriptor": 1}, bound, {"descriptor": 2}], packets)
        ports = [listener["port"] for listener in host.ready["listeners"]]
        self.assertEqual([ports[0], ports[2]], [first.getsockname()[1], second.getsockname()[1]])
        self.assertEqual(host.ready["listeners"][2]["address"], "::1")
        for address, family in ((first.getsockname(), socket.AF_INET), (("127.0.0.1", ports[1]), socket.AF_INET)):
            self.assertTrue(self.ask(host, address, family).startswith(b"HTTP/1.1 200 "))
        self.assertTrue(self.ask(host, second.getsockname()[:2], socket.AF_INET6).startswith(b"HTTP/1.1 200 "))

    def test_who_connects_while_no_program_runs_is_served_by_the_next(self):
        s = self.listening()
        given = [{"descriptor": 1}], [([LISTENER, 1, 0], [s.fileno()])]
        host = Host(*given)
        os.kill(host.process.pid, signal.SIGKILL)
        host.process.wait()
        host.stop()
        host.channel.close()
        client = socket.create_connection(s.getsockname(), 60)
        self.addCleanup(client.close)
        client.sendall(GET)
        following = self.host(*given)
        following.pump()
        self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 200 "))

    def test_the_files_of_unix_sockets_stay_since_they_are_the_hosts(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/s"
        s = self.listening(socket.AF_UNIX, path)
        host = self.host([{"descriptor": 1}], [([LISTENER, 1, 0], [s.fileno()])])
        self.assertEqual(host.ready["listeners"], [{"address": f"unix:{path}", "port": 0}])
        self.assertTrue(self.ask(host, path, socket.AF_UNIX).startswith(b"HTTP/1.1 200 "))
        host.stop()
        self.assertTrue(os.path.exists(path))

    def test_abstract_sockets_given_and_bound(self):
        name = f"sparx-test-{os.getpid()}"
        s = self.listening(socket.AF_UNIX, f"\0{name}-given")
        host = self.host([{"descriptor": 1}, {"address": f"unix:@{name}-bound"}], [([LISTENER, 1, 0], [s.fileno()])])
        addresses = [listener["address"] for listener in host.ready["listeners"]]
        self.assertEqual(addresses, [f"unix:@{name}-given", f"unix:@{name}-bound"])
        for end in ("given", "bound"):
            self.assertTrue(self.ask(host, f"\0{name}-{end}", socket.AF_UNIX).startswith(b"HTTP/1.1 200 "))

    def test_a_drain_ends_though_the_host_makes_the_socket_block(self):
        s = self.listening()
        host = self.host([{"descriptor": 1}], [([LISTENER, 1, 0], [s.fileno()])])
        s.setblocking(True)  # all copies share the flag
        host.send([DRAIN, 1000])
        self.assertEqual(host.process.wait(60), 0)

    def test_those_who_connect_during_a_drain_are_left_to_the_host_and_end_nothing(self):
        s = self.listening()
        host = self.host([{"descriptor": 1}], [([LISTENER, 1, 0], [s.fileno()])])
        host.held = []
        client = socket.create_connection(s.getsockname(), 60)
        self.addCleanup(client.close)
        client.sendall(GET)
        while not host.held:
            host.pump()
        host.send([DRAIN, 20000], [PING, 1])
        while not host.pongs:
            host.pump()
        for n in range(2, 12):
            late = socket.create_connection(s.getsockname(), 60)
            self.addCleanup(late.close)
            host.send([PING, n])
            while host.pongs < n:
                host.pump()
        host.send([RESPOND, host.held[0], 200, [], b"late"])
        self.assertTrue(client.recv(4096).endswith(b"late"))
        self.assertEqual(host.process.wait(60), 0)
        s.setblocking(False)
        for _ in range(10):
            s.accept()[0].close()

    def test_what_is_no_listening_stream_socket_is_refused(self):
        closed, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.addCleanup(closed.close)
        self.addCleanup(datagrams.close)
        with open(__file__) as file:
            for fd in (closed.fileno(), datagrams.fileno(), file.fileno()):
                with self.assertRaises(PortDied) as died:
                    Host([{"descriptor": 1}], [([LISTENER, 1, 0], [fd])])
                self.assertIn("must be a stream socket that listens", str(died.exception))
                self.assertIn("status 3", str(died.exception))

    def test_wrong_packets_are_refused(self):
        fd = self.listening().fileno()
        named = [{"descriptor": 1}]
        for packet, fds, rule in (
            ([LISTENER, 2, 0], [fd], "is not named in HELLO"),
            ([LISTENER, 1, 5], [fd], "is not named in HELLO"),
            ([0, 1, 0], [fd], "is not named in HELLO"),
            ([9, 1, 0], [fd], "is for an unknown use"),
            ([LISTENER, 1], [fd], "must come with [use, token, stream]"),
            ([LISTENER, 1, 0], [fd, fd], "must come alone"),
            ([LISTENER, 1, 0], [], "is missing"),
        ):
            self.assertIn(rule, self.refusal(named, [(packet, fds)]))

    def test_a_token_comes_once(self):
        s, other = self.listening(), self.listening()
        packets = [([LISTENER, 1, 0], [s.fileno()]), ([LISTENER, 1, 0], [other.fileno()])]
        self.assertIn("is not named in HELLO", self.refusal([{"descriptor": 1}, {"descriptor": 2}], packets))
        self.assertIn("different for each", self.refusal([{"descriptor": 1}, {"descriptor": 1}], packets))

    def test_one_that_hello_does_not_name_is_closed(self):
        s, more = self.listening(), self.listening()
        host = self.host([{"descriptor": 1}], [([LISTENER, 1, 0], [s.fileno()])])
        socket.send_fds(host.channel, [mp.encode([LISTENER, 2, 0])], [more.fileno()])
        while not host.errors:
            host.pump()
        self.assertIn("is not named in HELLO", host.errors[0])
        self.assertTrue(self.ask(host, s.getsockname()).startswith(b"HTTP/1.1 200 "))

    def test_without_a_channel_none_can_be_given(self):
        program = Program.__new__(Program)
        with self.assertRaises(PortDied) as died:
            program.__init__(os.environ.get("SPARX_PORT") or PATH, {"listeners": [{"descriptor": 1}]})
        program.stop()
        self.assertIn("descriptor needs a channel", str(died.exception))

    def test_the_files_of_sockets_that_it_binds_have_their_mode(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/s"
        listeners = [{"address": f"unix:{path}", "mode": 0o640, "owner": os.getuid(), "group": os.getgid()}]
        program = Program(os.environ.get("SPARX_PORT") or PATH, {"listeners": listeners})
        self.addCleanup(program.stop)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)


if __name__ == "__main__":
    unittest.main()
