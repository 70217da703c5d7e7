# SPDX-License-Identifier: Apache-2.0
"""sparx_port as a child process, and the frames to it and from it (PROTOCOL.md). A subclass that plays its host overrides `take`."""

import os
import re
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "port"))
import definitions  # noqa: E402
from . import mp  # noqa: E402

PATH = str(REPO / "priv" / "sparx_port")

globals().update(definitions.KINDS)
KINDS = {kind: name for name, kind in definitions.KINDS.items()}
METHODS = definitions.METHODS

__all__ = [*KINDS.values(), "KINDS", "METHODS", "PATH", "REPO", "PortDied", "Program", "field_names", "frame", "framed", "split"]


QUIET = 0.5  # s
PATIENCE = 60.0  # s: how long to wait for what must come, so that a test fails instead of waiting for ever


class PortDied(Exception):
    pass


def field_names():
    """The table of PROTOCOL.md section 1.2."""
    table = (REPO / "PROTOCOL.md").read_text().split("<!-- names:begin -->")[1].split("<!-- names:end -->")[0]
    return {int(i): name for i, name in re.findall(r"\|\s*(\d+)\s*\|\s*([a-z0-9-]+)", table)}


def framed(payload):
    return struct.pack(">I", len(payload)) + payload


def frame(*messages):
    return framed(b"".join(map(mp.encode, messages)))


def split(data):
    """The messages of the complete frames at the front, and the rest."""
    heard = []
    while len(data) >= 4:
        size = struct.unpack_from(">I", data)[0]
        if len(data) < 4 + size:
            break
        payload, data, at = data[4 : 4 + size], data[4 + size :], 0
        while at < len(payload):
            message, at = mp.decode(payload, at)
            heard.append(message)
    return heard, data


class Program:
    def __init__(self, path=PATH, options=None, **how):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **how)
        self.out = self.process.stdout.fileno()
        self.input, self.ready, self.figures = b"", None, None
        self.errors, self.logs = [], []
        self.pings = self.pongs = 0
        self.sending = threading.Lock()
        self.send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0}], **(options or {})}])
        while self.ready is None:
            self.pump()
        self.address = ("127.0.0.1", self.ready["listeners"][0]["port"])

    def stop(self):
        """Closes the pipes; returns the program's exit status."""
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def send(self, *messages):
        """Writes everything, also if several threads write: a pipe accepts more than a page only in parts."""
        try:
            with self.sending:
                data = frame(*messages)
                while data:
                    data = data[self.process.stdin.write(data) :]
        except BrokenPipeError:
            raise PortDied(f"the port has ended: {self.process.wait(PATIENCE)}") from None

    def ping(self):
        self.pings += 1
        self.send([PING, self.pings])

    def pump(self):
        """Reads once, and handles the messages."""
        if not select.select([self.out], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the port says nothing; errors {self.errors}, logs {self.logs}")
        data = os.read(self.out, 1 << 20)
        if not data:
            raise PortDied(f"the port has ended: status {self.process.wait(PATIENCE)}, errors {self.errors}")
        heard, self.input = split(self.input + data)
        for kind, *rest in heard:
            self.note(kind, rest) or self.take(kind, rest)

    def until(self, reached, what="what was waited for"):
        """Pumps until the condition is true."""
        end = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError(f"did not happen: {what}; errors {self.errors}, figures {self.figures}")
            self.pump()

    def pump_until_quiet(self):
        """Waits until the port has sent nothing for a while."""
        while select.select([self.out], [], [], QUIET)[0]:
            self.pump()

    def ask_figures(self):
        """The port's figures, after it has handled all earlier messages."""
        self.figures = None
        self.send([STATS, 0])
        self.until(lambda: self.figures is not None, "the answer to STATS")
        return self.figures

    def figures_until(self, fine):
        """Asks for the figures until they have these values."""
        end = time.monotonic() + PATIENCE
        while not fine(self.ask_figures()):
            if time.monotonic() > end:
                raise TimeoutError(f"the figures stay {self.figures}")

    def note(self, kind, rest):
        """Handles messages without a stream. True: the message is handled."""
        if kind == READY:
            self.ready = rest[1]
        elif kind == ERROR:
            self.errors.append(f"{KINDS.get(rest[0], rest[0])} {rest[2]} {rest[3]} {rest[4]}")
        elif kind == LOG:
            self.logs.append((rest[0], rest[1]))
        elif kind == FIGURES:
            self.figures = rest[1]
        elif kind == PONG:
            self.pongs = rest[0]
        else:
            return False
        return True

    def take(self, kind, rest):
        """A message about a stream, or DRAINED."""
