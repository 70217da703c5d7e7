#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory that the host shares with the port (PROTOCOL.md, section 3.7). Run by `make -C port test`; or
SPARX_PORT=priv/sparx_port test/port/region_test.py."""

import contextlib
import mmap
import os
import pathlib
import random
import socket
import sys
import tempfile
import threading
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lib import mp, ws  # noqa: E402
from lib.program import (  # noqa: E402
    ABORT, CLOSE, DATA, DEMAND, DONE, END, GONE, HEAD, PATH, READ, REQUEST, SEND, SEND_SHARED, SHARED, UNUSED, UPGRADE,
    PortDied, Program,
)

REGION = 2
SLOT = 4096
UNIT = 16  # slots
BIG = UNIT * SLOT


def pattern(slot, turn, length):
    """Bytes that occur only in this slot, and only in this use of it."""
    return (b"%05d:%08d;" % (slot, turn) * (length // 15 + 1))[:length]


class Host(Program):
    """Answers each request with its parts in `plan`, ("shared", length) or ("pipe", length), through free slots; there are UNIT times `slots`."""

    def __init__(self, slots, plan=(), path=None, given=None, **options):
        slots *= UNIT
        self.folder = tempfile.TemporaryDirectory()
        at = f"{self.folder.name}/s"
        self.fd = os.open(f"{self.folder.name}/memory", os.O_RDWR | os.O_CREAT, 0o600)
        os.truncate(self.fd, slots * SLOT)
        self.memory = mmap.mmap(self.fd, slots * SLOT)
        read_only = os.open(f"{self.folder.name}/memory", os.O_RDONLY)
        self.free, self.turn, self.plan, self.sent = list(range(slots)), 0, list(plan), {}
        self.back, self.done, self.gone = [], [], []
        waits = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waits.bind(at)
        waits.listen(1)
        self.channel = None

        def hand_over():
            with contextlib.suppress(OSError):
                self.channel, _ = waits.accept()
                socket.send_fds(self.channel, [mp.encode([REGION, 1, 0])], [read_only if given is None else given])

        thread = threading.Thread(target=hand_over, daemon=True)
        thread.start()
        try:
            super().__init__(
                path or os.environ.get("SPARX_PORT") or PATH, {"descriptors": at, "region": 1, **options}
            )
        except PortDied:
            self.stop()
            waits.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            thread.join()
            waits.close()
            os.close(read_only)
        self.send([DEMAND, 1000])

    def close(self):
        self.stop()
        self.channel.close()
        self.memory.close()
        os.close(self.fd)
        self.folder.cleanup()

    def neighbours(self, count):
        """The first of this many adjacent free slots, or None."""
        return next((s for s in self.free if all(s + i in self.free for i in range(count))), None)

    def fill(self, length):
        slot = self.neighbours((length + SLOT - 1) // SLOT)
        for taken in range(slot, slot + (length + SLOT - 1) // SLOT):
            self.free.remove(taken)
        self.turn += 1
        data = pattern(slot, self.turn, length)
        self.memory[slot * SLOT : slot * SLOT + length] = data
        return slot, data

    def take(self, kind, rest):
        if kind == REQUEST and self.plan:
            messages, body = [], b""
            for how, length in self.plan.pop(0):
                if how == "shared" and self.neighbours((length + SLOT - 1) // SLOT) is not None:
                    slot, data = self.fill(length)
                    messages.append([SHARED, rest[0], slot, length])
                else:
                    data = os.urandom(length)
                    messages.append([DATA, rest[0], data])
                body += data
            self.sent[rest[0]] = body
            self.send([HEAD, rest[0], 200, [], len(body)], *messages, [END, rest[0], None])
        elif kind == REQUEST:
            self.waiting = rest[0]
        elif kind == UNUSED:
            first, count = rest
            for slot in range(first, first + count):
                if slot in self.free:
                    raise AssertionError(f"slot {slot} comes back twice")
                self.free.append(slot)
                self.back.append(slot)
        elif kind == DONE:
            self.done.append(rest[0])
        elif kind == GONE:
            self.gone.append(rest[0])

    def until(self, condition):
        while not condition():
            self.pump()


@unittest.skipIf(os.environ.get("PORTABLE"), "there is no channel for descriptors")
class Region(unittest.TestCase):
    def host(self, *args, **options):
        host = Host(*args, **options)
        self.addCleanup(host.close)
        return host

    def client(self, host, requests=1):
        client = socket.create_connection(host.address, 60)
        self.addCleanup(client.close)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * requests)
        return client

    def body(self, client, length):
        file = client.makefile("rb")
        self.assertIn(b"200", file.readline())
        while file.readline() not in (b"\r\n", b""):
            pass
        return file.read(length)

    def test_what_lies_in_slots_arrives_and_the_slots_come_back(self):
        host = self.host(4, [[("shared", BIG), ("pipe", 10), ("shared", 100), ("shared", 20000)]])
        self.assertIn("region", host.ready["features"])
        client = self.client(host)
        host.until(lambda: host.sent)
        [body] = host.sent.values()
        self.assertEqual(self.body(client, len(body)), body)
        host.until(lambda: len(host.free) == 4 * UNIT)
        self.assertEqual(sorted(host.back), list(range(UNIT + 1 + 5)))
        self.assertEqual(host.errors, [])

    def test_bytes_may_need_several_slots_each_of_which_comes_back(self):
        host = self.host(6, [[("shared", BIG + 1), ("pipe", 5), ("shared", 2 * BIG)]])
        client = self.client(host)
        host.until(lambda: host.sent)
        [body] = host.sent.values()
        self.assertEqual(self.body(client, len(body)), body)
        host.until(lambda: len(host.free) == 6 * UNIT)
        self.assertEqual(sorted(host.back), list(range(UNIT + 1 + 2 * UNIT)))
        self.assertEqual(host.errors, [])

    def test_random_plans_with_few_slots_and_clients_that_read_when_they_like(self):
        """Slots are refilled as soon as they return: a byte that was still needed would be wrong then."""
        rng = random.Random(7)
        plan = [
            [(rng.choice(["shared", "pipe"]), rng.choice([1, 100, 8191, 8192, 30000, BIG, BIG + 1])) for _ in range(rng.randint(1, 4))]
            for _ in range(200)
        ]
        host = self.host(5, plan)
        seen = 0
        clients = []
        while seen < 200:
            while len(clients) < 6 and host.plan:
                clients.append((self.client(host), len(host.sent)))
                count = len(host.sent)
                host.until(lambda: len(host.sent) > count)  # noqa: B023
            client, nth = clients.pop(rng.randrange(len(clients)))
            body = list(host.sent.values())[nth]
            self.assertEqual(self.body(client, len(body)), body)
            client.close()
            seen += 1
        host.until(lambda: len(host.free) == 5 * UNIT)
        self.assertEqual(host.errors, [])

    def test_a_client_that_leaves_and_a_stream_that_is_cut_keep_no_slot(self):
        host = self.host(8, [[("shared", BIG)] * 4])
        client = self.client(host)
        host.until(lambda: host.sent)
        client.close()
        host.until(lambda: len(host.free) == 8 * UNIT)
        client = self.client(host)
        host.waiting = None
        host.until(lambda: host.waiting)
        slots = [host.fill(BIG)[0] for _ in range(2)]
        host.send([HEAD, host.waiting, 200, [], None], *[[SHARED, host.waiting, s, BIG] for s in slots], [ABORT, host.waiting, 500])
        host.until(lambda: len(host.free) == 8 * UNIT)
        self.assertEqual(host.errors, [])

    def test_a_slot_that_is_named_for_a_stream_that_is_gone_comes_back(self):
        host = self.host(2, [[("pipe", 1)]])
        client = self.client(host)
        host.until(lambda: host.done)
        slot, _ = host.fill(BIG)
        host.send([SHARED, host.done[0], slot, BIG])
        host.until(lambda: len(host.free) == 2 * UNIT)
        client.close()

    def test_a_slot_that_is_named_again_before_it_came_back_comes_back_once(self):
        """Its number would be listed again each time, beyond the end of the list."""
        host = self.host(2, [[("pipe", 1)]])
        client = self.client(host)
        host.until(lambda: host.done)
        slot, _ = host.fill(10)
        host.send(*[[SHARED, host.done[0], slot, 10]] * 20_000)
        host.until(lambda: len(host.free) == 2 * UNIT)
        host.waiting = None
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        host.until(lambda: host.waiting)
        slot, _ = host.fill(10)
        host.send([HEAD, host.waiting, 200, [], None], *[[SHARED, host.waiting, slot, 10]] * 2)
        host.until(lambda: host.errors and len(host.free) == 2 * UNIT)
        self.assertIn("slot does not exist, or belongs to the port", host.errors[0])
        client.close()

    def test_a_host_that_lies_about_a_slot_loses_the_stream_and_nothing_else(self):
        host = self.host(2)
        lies = (
            (2 * UNIT, 10, "slot"), (1 << 40, 10, "slot"), (0, 0, "length"), (0, 2 * BIG + 1, "length"),
            (UNIT, BIG + 1, "length"), (1, (1 << 64) - 1, "length"),
        )  # fmt: skip
        for slot, length, rule in lies:
            client = self.client(host)
            host.waiting = None
            host.until(lambda: host.waiting)
            if slot in host.free:
                host.free.remove(slot)
            host.send([HEAD, host.waiting, 200, [], None], [SHARED, host.waiting, slot, length])
            host.until(lambda: host.errors and len(host.free) == 2 * UNIT)
            self.assertIn(rule, host.errors.pop())
            client.close()

    def test_a_slot_that_is_in_use_cannot_be_named_again(self):
        host = self.host(2, window=1 << 20, max_frame=1 << 21)
        slow = socket.socket()
        self.addCleanup(slow.close)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(host.address)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        host.waiting = None
        host.until(lambda: host.waiting)
        first = host.waiting
        slot, data = host.fill(BIG)
        ahead = [[DATA, first, bytes(60000)]] * 10  # more than the kernel accepts at once
        host.send([HEAD, first, 200, [], None], *ahead, [SHARED, first, slot, BIG])
        client = self.client(host)
        host.until(lambda: host.waiting != first)
        host.send([HEAD, host.waiting, 200, [], None], [SHARED, host.waiting, slot, BIG])
        host.until(lambda: host.errors)
        self.assertIn("slot does not exist, or belongs to the port", host.errors[0])
        self.assertEqual(host.back, [])
        host.send([END, first, None])
        body, want = b"", 10 * 60000 + BIG
        while len(body) < want:
            body += slow.recv(1 << 20)
            body = body.partition(b"\r\n\r\n")[2] if body.startswith(b"HTTP") else body
            if b"0\r\n\r\n" in body[-5:]:
                break
        self.assertIn(data[-4000:], body)
        host.until(lambda: slot in host.back)
        client.close()

    def test_more_than_the_window_resets_the_stream_and_the_slot_comes_back(self):
        host = self.host(4, window=70000, max_frame=200000)
        client = self.client(host)
        host.waiting = None
        host.until(lambda: host.waiting)
        slots = [host.fill(BIG)[0] for _ in range(2)]
        host.send([HEAD, host.waiting, 200, [], None], *[[SHARED, host.waiting, s, BIG] for s in slots])
        host.until(lambda: len(host.free) == 4 * UNIT)
        self.assertIn("exceeds the window", host.errors[0])
        client.close()

    def socket(self, host, compress=None):
        """A WebSocket: the client's end, as a file, and its stream."""
        client = socket.create_connection(host.address, 60)
        self.addCleanup(client.close)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + ws.KEY.encode() + b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        host.waiting = None
        host.until(lambda: host.waiting)
        host.send([UPGRADE, host.waiting, "websocket", [], {"compress": {}} if compress else {}])
        file = client.makefile("rb")
        while file.readline() not in (b"\r\n", b""):
            pass
        self.addCleanup(file.close)
        return client, file, host.waiting

    def frame(self, file):
        """(opcode, fin, rsv, payload)"""
        first, second = file.read(2)
        size = second & 127
        size = int.from_bytes(file.read(2 if size == 126 else 8), "big") if size > 125 else size
        return first & 15, first >> 7, first >> 4 & 7, file.read(size)

    def test_messages_of_a_websocket_lie_in_slots_too(self):
        host = self.host(8)
        client, file, stream = self.socket(host)
        whole, long = host.fill(BIG), host.fill(2 * BIG + 77)
        host.send(
            [SEND_SHARED, stream, 2, whole[0], BIG, 0], [SEND, stream, 1, b"between", 0], [SEND_SHARED, stream, 2, long[0], len(long[1]), 0]
        )
        self.assertEqual(self.frame(file), (ws.BINARY, 1, 0, whole[1]))
        self.assertEqual(self.frame(file), (ws.TEXT, 1, 0, b"between"))
        self.assertEqual(self.frame(file), (ws.BINARY, 1, 0, long[1]))
        host.until(lambda: len(host.free) == 8 * UNIT)
        piece, last = host.fill(100), host.fill(BIG)
        host.send([SEND_SHARED, stream, 1, piece[0], 100, BIG], [SEND_SHARED, stream, 1, last[0], BIG, 0])
        self.assertEqual(self.frame(file), (ws.TEXT, 0, 0, piece[1]))
        self.assertEqual(self.frame(file), (ws.CONTINUATION, 1, 0, last[1]))
        host.until(lambda: len(host.free) == 8 * UNIT)
        self.assertEqual(host.errors, [])
        client.close()

    def test_a_message_that_is_compressed_leaves_its_slots_at_once(self):
        host = self.host(4)
        _, file, stream = self.socket(host, compress=True)
        slot, data = host.fill(3 * BIG)
        host.send([SEND_SHARED, stream, 2, slot, len(data), 0])
        host.until(lambda: len(host.free) == 4 * UNIT)
        frames = [self.frame(file)]
        while not frames[-1][1]:
            frames.append(self.frame(file))
        self.assertEqual(frames[0][2], 4)
        text = b"".join(payload for *_, payload in frames)
        self.assertEqual(zlib.decompressobj(-15).decompress(text + b"\x00\x00\xff\xff"), data)

    def test_a_websocket_that_ends_keeps_no_slot(self):
        host = self.host(4)
        client, file, stream = self.socket(host)
        slot, _ = host.fill(2 * BIG)
        host.send([READ, stream, 1, 1])
        file.close()
        client.close()
        host.until(lambda: host.gone == [stream])
        host.send([SEND_SHARED, stream, 2, slot, 2 * BIG, 0])
        host.until(lambda: len(host.free) == 4 * UNIT)
        _, _, stream = self.socket(host)
        slot, _ = host.fill(2 * BIG)
        host.send([CLOSE, stream, 1000, b""], [SEND_SHARED, stream, 2, slot, 2 * BIG, 0])
        host.until(lambda: len(host.free) == 4 * UNIT)
        self.assertEqual(host.errors, [])

    def test_what_is_wrong_with_a_message_ends_the_websocket_and_its_slots_come_back(self):
        for type, length, rule in ((3, 10, "must be 1, 2, 9 or 10"), (9, 200, "125 bytes"), (2, 2 * BIG, "exceeds the window"), (1, 0, "length")):
            host = self.host(4, window=BIG, max_frame=200000)
            _, _, stream = self.socket(host)
            slot, _ = host.fill(length or 1)
            host.send([SEND_SHARED, stream, type, slot, length, 0])
            host.until(lambda: host.gone == [stream] and len(host.free) == 4 * UNIT)  # noqa: B023
            self.assertIn(rule, host.errors[0])

    def test_a_message_for_what_is_no_websocket_resets_the_stream(self):
        host = self.host(2)
        self.client(host)
        host.waiting = None
        host.until(lambda: host.waiting)
        slot, _ = host.fill(10)
        host.send([HEAD, host.waiting, 200, [], None], [SEND_SHARED, host.waiting, 2, slot, 10, 0])
        host.until(lambda: host.gone == [host.waiting] and len(host.free) == 2 * UNIT)
        self.assertIn("not a WebSocket", host.errors[0])

    def test_what_cannot_be_a_region_is_refused(self):
        with tempfile.TemporaryFile() as file:
            os.truncate(file.fileno(), SLOT)
            cases = [file.fileno()]  # open for writing
            empty, odd = (f"{tempfile.gettempdir()}/sparx-region-{os.getpid()}-{n}" for n in ("empty", "odd"))
            for path, size in ((empty, 0), (odd, SLOT + 1)):
                with open(path, "wb") as f:
                    f.truncate(size)
                cases.append(os.open(path, os.O_RDONLY))
                os.unlink(path)
            for fd in cases:
                with self.assertRaises(PortDied) as died:
                    Host(1, given=fd)
                self.assertIn("region must be a regular file", str(died.exception))
            for fd in cases[1:]:
                os.close(fd)


if __name__ == "__main__":
    unittest.main()
