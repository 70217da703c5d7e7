# SPDX-License-Identifier: Apache-2.0
"""The host that the kit plays: a run of the program, and the functions for scenarios."""

import os
import select
import struct
import subprocess
import time

import scenarios
from client import Client
from rules import HELLO, PING, STATS, Broken, Rules, mp

QUIET = 0.1  # s: how long to wait for what must not come


class Host:
    """A run of the program, its messages, and its clients."""

    def __init__(self, command, patience):
        self.rules, self.patience = Rules(), patience
        self.clients, self.input, self.ended, self.tag = [], b"", False, 0
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.out = self.process.stdout.fileno()

    # ---- the pipes

    def send(self, *messages):
        """Right messages, in one frame."""
        for message in messages:
            self.rules.said(*message)
        self.send_raw(b"".join(map(mp.encode, messages)))

    def send_raw(self, payload):
        self.write(struct.pack(">I", len(payload)) + payload)

    def write(self, data):
        try:
            self.process.stdin.write(data)
        except BrokenPipeError:
            pass  # its end of file is noticed when it is read

    def pump(self, timeout):
        """Lets the port and the clients continue. False: nothing arrived in this time."""
        reading = [] if self.ended else [self.out]
        reading += [c for c in self.clients if c.reads and not c.eof]
        writing = [c for c in self.clients if c.output and not c.eof]
        readable, writable, _ = select.select(reading, writing, [], max(0, timeout))
        for client in writable:
            client.flush()
        for one in readable:
            self.read() if one == self.out else one.fill()
        return bool(readable)

    def read(self):
        data = os.read(self.out, 1 << 20)
        self.ended = not data
        self.input += data
        while len(self.input) >= 4:
            size = struct.unpack_from(">I", self.input)[0]
            if size > 1 << 20:
                raise Broken("1", f"the port never sends a payload of more than 65532 bytes: {size} announced")
            if len(self.input) < 4 + size:
                break
            payload, self.input = self.input[4 : 4 + size], self.input[4 + size :]
            self.arrived(payload)
        if self.ended and self.input:
            raise Broken("1", "the last frame is cut short")

    def arrived(self, payload):
        self.rules.frame(payload)

    def until(self, reached, section, rule):
        """Continues until the condition is true, and returns its value: the port must make it true in time."""
        end = time.monotonic() + self.patience
        while not (what := reached()):
            left = end - time.monotonic()
            if left <= 0 or (self.ended and not any(not c.eof for c in self.clients)):
                raise Broken(section, rule + (": the port has ended" if self.ended else ""))
            self.pump(left)
        return what

    def quiet(self):
        end = time.monotonic() + QUIET
        while (left := end - time.monotonic()) > 0:
            self.pump(left)

    # ---- what scenarios ask for

    def start(self, **options):
        self.send([HELLO, 1, {"listeners": [{"address": "127.0.0.1", "port": 0}], **options}])
        self.until(lambda: self.rules.ready, "2", "READY is the answer to HELLO")
        self.address = ("127.0.0.1", self.rules.ready["listeners"][0]["port"])

    def client(self, **options):
        self.clients.append(Client(self.address, **options))
        return self.clients[-1]

    def has(self, feature):
        return feature in self.rules.ready["features"]

    def sync(self):
        """Waits until the port has handled everything that was sent: it handles messages in order."""
        self.tag += 1
        tag = self.tag
        self.send([PING, tag])
        self.until(lambda: tag in self.rules.pongs, "4", "PING is answered by PONG")

    def figures(self):
        self.rules.figures.clear()
        self.tag += 1
        self.send([STATS, self.tag])
        return self.until(lambda: self.rules.figures, "4", "STATS is answered by FIGURES")[0]

    def figure(self, name, value):
        """Waits until the figure has this value."""
        end = time.monotonic() + self.patience
        while (seen := self.figures().get(name)) != value:
            if time.monotonic() > end:
                raise Broken("8", f"FIGURES: {name} is {seen}, not {value}")
            time.sleep(0.005)

    def request(self):
        """The next REQUEST."""
        return self.until(lambda: self.rules.requests, "4", "REQUEST: there is demand, and a request").pop(0)

    def response(self, client, status=None, to_head=False):
        section, rule = "4", "the client gets its response"
        response = self.until(lambda: client.response(to_head), section, rule)
        if status and response.status != status:
            raise Broken(section, f"the client gets {response.status}, not {status}")
        return response

    def done(self, stream, reason="done"):
        self.until(lambda: stream.over, "3", "a stream ends with DONE or GONE")
        if stream.over != reason:
            raise Broken("3", f"the stream ends with {stream.over}, not {reason}")

    def eof(self, client, section, rule):
        self.until(lambda: client.eof, section, rule)

    def exits(self, status):
        """The port closes stdout, and ends."""
        self.until(lambda: self.ended, "2", "the port ends")
        try:
            got = self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            raise Broken("6", "the port ends when it has closed stdout") from None
        if got != status:
            raise Broken("6", f"the exit status is {status}, not {got}")

    def signal(self, number):
        self.process.send_signal(number)

    def leave(self):
        """End of file on stdin."""
        self.process.stdin.close()

    def over(self):
        """The end of each scenario that did not end the port itself."""
        if self.process.stdin.closed or self.ended:
            return
        if self.rules.errors:
            raise Broken("6", f"ERROR about a right message: {self.rules.errors[0]}")
        self.leave()
        self.exits(0)

    def kill(self):
        for client in self.clients:
            client.socket.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def play(name, kit):
    """The line of the report."""
    try:
        why = scenarios.ALL[name](kit)
        kit.over()
        return f"skipped {name}: {why}" if why else f"ok {name}"
    except Broken as broken:
        return f"broken {name}: {broken}"
    finally:
        kit.kill()


