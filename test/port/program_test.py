#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program on its own: what it prints, its exit statuses, and its errors for a host that makes mistakes (sparx_port.1)."""

import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "test"))
from lib.program import DRAIN, DRAINED, ERROR, HELLO, READY, frame, split  # noqa: E402

PORT = os.environ.get("SPARX_PORT") or str(REPO / "priv/sparx_port")
LISTEN = {"listeners": [{"address": "127.0.0.1", "port": 0}]}


def run(*arguments, data=b"", **options):
    done = subprocess.run([PORT, *arguments], input=data, capture_output=True, timeout=120, check=False, **options)
    return done.returncode, done.stdout, done.stderr.decode()


def messages(data):
    heard, rest = split(data)
    assert not rest, f"half a frame at the end: {rest!r}"
    return heard


class CommandLine(unittest.TestCase):
    def test_tables(self):
        protocol = (REPO / "PROTOCOL.md").read_text()
        for option, words in (("--help", "usage:"), ("--version", "protocol 1"), ("--protocol", "| 65 | REQUEST |"), ("--options", "`window`")):
            status, out, err = run(option)
            self.assertEqual((status, err), (0, ""))
            self.assertIn(words, out.decode())
        self.assertIn(run("--options")[1].decode().strip(), protocol)

    def test_man_page_names_every_option(self):
        page = (REPO / "port/sparx_port.1").read_text().replace("\\-", "-")
        for option in re.findall(r"--\w+", run("--help")[1].decode()):
            self.assertIn(option, page)

    def test_wrong_use(self):
        status, out, err = run("--bogus")
        self.assertEqual((status, out), (1, b""))
        self.assertTrue(err.startswith("sparx_port: unknown option --bogus\nusage: "))
        self.assertEqual(run("a", "b")[0], 1)

    def test_by_hand_in_a_terminal_it_explains_itself(self):
        try:
            ours, theirs = pty.openpty()
        except OSError as reason:
            self.skipTest(str(reason))
        done = subprocess.run([PORT], stdin=theirs, capture_output=True, timeout=120, check=False)
        os.close(ours)
        os.close(theirs)
        self.assertEqual(done.returncode, 1)
        self.assertIn("an HTTP server for a host program", done.stderr.decode())


class ExitStatus(unittest.TestCase):
    def refused(self, data, status, *words):
        """The program ends with that status, and its last message is an ERROR with those words."""
        got, out, err = run(data=data)
        self.assertEqual((got, err), (status, ""))
        last = messages(out)[-1]
        self.assertEqual((last[0], last[-1]), (ERROR, "exit"))
        for word in words:
            self.assertIn(word, last)

    def test_0_end_of_file(self):
        self.assertEqual(run()[:2], (0, b""))
        status, out, _ = run(data=frame([HELLO, 1, LISTEN]))
        self.assertEqual((status, messages(out)[0][0]), (0, READY))

    def test_0_drain(self):
        status, out, _ = run(data=frame([HELLO, 1, LISTEN], [DRAIN, 1000]))
        self.assertEqual((status, messages(out)[-1]), (0, [DRAINED, 0]))

    def test_0_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            port = subprocess.Popen([PORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            port.stdin.write(frame([HELLO, 1, LISTEN]))
            port.stdin.flush()
            port.stdout.read(4)
            port.send_signal(number)
            self.assertEqual(port.wait(120), 0)
            self.assertTrue(port.stdout.read().endswith(frame([DRAINED, 0])))
            port.stdin.close()
            port.stdout.close()

    def test_2_a_wrong_option(self):
        self.refused(frame([HELLO, 2, LISTEN]), 2, "version")
        self.refused(frame([HELLO, 1, {**LISTEN, "window": 1}]), 2, "window")
        self.refused(frame([HELLO, 1, {**LISTEN, "bogus": 1}]), 2)
        self.refused(frame([HELLO, 1, {}]), 2)

    def test_3_an_address_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listener = {"address": "127.0.0.1", "port": taken.getsockname()[1]}
            self.refused(frame([HELLO, 1, {"listeners": [listener]}]), 3)

    def test_4_the_framing(self):
        self.refused(b"\xff\0\0\1", 4, "frame")
        self.refused(frame([1, 1]), 4, "kind")
        self.refused(b"\0\0\0\1\xc1", 4, "message")
        self.refused(frame([HELLO, 1, LISTEN]) + b"\xff\0\0\1", 4, "frame")

    def test_5_no_pipes(self):
        done = subprocess.run(["sh", "-c", '"$0" <&- >&-', PORT], stderr=subprocess.PIPE, timeout=120, check=False)
        self.assertEqual(done.returncode, 5)
        self.assertIn("sparx_port: error: cannot start: ", done.stderr.decode())


if __name__ == "__main__":
    unittest.main()
