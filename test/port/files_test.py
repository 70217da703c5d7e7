#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files that the program sends by itself (PROTOCOL.md, FILE). Run by `make -C port test`; or SPARX_PORT=priv/sparx_port test/port/files_test.py."""

import os
import pathlib
import select
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lib import h2  # noqa: E402
from lib.channel import FILE_OF_ALL, HandingProgram  # noqa: E402
from lib.program import CLOSE_FILE, DATA, DEMAND, DONE, END, FILE, GONE, HEAD, PATH, REQUEST, ROOM, STATS  # noqa: E402

PORT = os.environ.get("SPARX_PORT") or PATH
PORTABLE = os.environ.get("PORTABLE")


def pattern(n, seed=0):
    """Bytes that each identify their position."""
    block = b"".join((i * 2654435761 + seed & 0xFFFFFFFF).to_bytes(4, "big") for i in range(4096))
    return (block * (n // len(block) + 1))[:n]


class Host(HandingProgram):
    """Answers each request as `answer` says, and records what happens to it."""

    def __init__(self, answer, options=None):
        self.answer, self.ends, self.room, self.streams = answer, {}, 0, []
        super().__init__(PORT, {"sandbox": "best_effort", **(options or {})})
        self.send([DEMAND, 1000])

    def take(self, kind, rest):
        if kind == REQUEST:
            self.streams.append(rest[0])
            self.answer(self, rest[0])
        elif kind in (DONE, GONE):
            self.ends[rest[0]] = "done" if kind == DONE else rest[1]
        elif kind == ROOM:
            self.room += rest[1]

    def until(self, condition):
        while not condition():
            self.pump()

    def count(self, name):
        self.figures = None
        self.send([STATS, 0])
        self.until(lambda: self.figures)
        return self.figures[name]


class Client:
    def __init__(self, host, **options):
        self.host = host
        self.socket = socket.socket()
        if options.get("receive"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive"])
        self.socket.connect(host.address)
        self.input = b""

    def ask(self, method="GET", version="1.1", more=""):
        self.socket.sendall(f"{method} / HTTP/{version}\r\nHost: a\r\n{more}\r\n".encode())

    def read(self):
        """Reads once, and lets the host work meanwhile. False: the end."""
        while True:
            ready = select.select([self.socket, self.host.out], [], [], 60)[0]
            if not ready:
                raise AssertionError(f"nothing comes any more, after {len(self.input)} bytes")
            if self.host.out in ready:
                self.host.pump()
            if self.socket in ready:
                try:
                    data = self.socket.recv(1 << 20)
                except ConnectionResetError:
                    return False
                self.input += data
                return bool(data)

    def head(self):
        while b"\r\n\r\n" not in self.input and self.read():
            pass
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        return head.decode()

    def body(self, n):
        while len(self.input) < n and self.read():
            pass
        body, self.input = self.input[:n], self.input[n:]
        return body

    def rest(self):
        while self.read():
            pass
        return self.input


class H2Client(Client):
    """HTTP/2, with windows as wide as they may be."""

    def __init__(self, host, window=2**31 - 1):
        super().__init__(host)
        self.bodies, self.ended, self.resets = {}, set(), {}
        wide = h2.window(0, 2**31 - 1 - 65535)
        self.socket.sendall(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, window)) + wide)

    def get(self, stream, method="GET"):
        fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")]
        self.socket.sendall(h2.headers(stream, fields, end=True))

    def until(self, reached):
        while not reached() and self.read():
            frames, self.input = h2.split(self.input)
            for kind, flags, stream, payload in frames:
                if kind == h2.DATA:
                    self.bodies.setdefault(stream, bytearray()).extend(payload)
                if kind in (h2.DATA, h2.HEADERS) and flags & h2.END_STREAM:
                    self.ended.add(stream)
                if kind == h2.RST_STREAM:
                    self.resets[stream] = h2.ERRORS[payload[3]]


@unittest.skipIf(PORTABLE, "descriptors are for Linux")
class Files(unittest.TestCase):
    def file(self, data):
        file = tempfile.NamedTemporaryFile()
        self.addCleanup(file.close)
        file.write(data)
        file.flush()
        return file

    def serve(self, answer, options=None):
        host = Host(answer, options)
        self.addCleanup(host.stop)
        return host

    def client(self, host, **options):
        client = Client(host, **options)
        self.addCleanup(client.socket.close)
        return client

    def whole(self, path, length, offset=0, announced=True):
        """An answer that is a part of a file."""

        def answer(host, stream):
            with open(path, "rb") as file:
                token = host.hand(stream, file)
            host.send(
                [HEAD, stream, 200, [], length if announced else None], [FILE, stream, token, offset, length], [END, stream, None]
            )

        return answer

    def test_files_of_all_sizes(self):
        for size in 1, 100, 10_000, 65_536, 65_537, 100_000, 1_000_000, 30_000_000:
            data = pattern(size, size)
            host = self.serve(self.whole(self.file(data).name, size))
            client = self.client(host)
            for _ in range(2):
                client.ask()
                self.assertIn(f"Content-Length: {size}", client.head())
                self.assertEqual(client.body(size) == data, True)
            host.until(lambda: len(host.ends) == 2)
            self.assertEqual(set(host.ends.values()), {"done"})
            self.assertEqual((host.count("files"), host.count("body_queued"), host.errors), (0, 0, []))

    def test_a_part_of_a_file(self):
        data = pattern(500_000)
        host = self.serve(self.whole(self.file(data).name, 300_000, 123_457))
        client = self.client(host)
        client.ask()
        client.head()
        self.assertEqual(client.body(300_000) == data[123_457:423_457], True)

    def test_chunked_and_to_the_end(self):
        data = pattern(200_000)
        host = self.serve(self.whole(self.file(data).name, 200_000, announced=False))
        client = self.client(host)
        client.ask()
        self.assertIn("Transfer-Encoding: chunked", client.head())
        self.assertEqual(client.body(7 + 200_000 + 7) == b"30d40\r\n" + data + b"\r\n0\r\n\r\n", True)
        client = self.client(host)
        client.ask(version="1.0")
        client.head()
        self.assertEqual(client.rest() == data, True)

    def test_between_other_data(self):
        one, two = pattern(100_000, 1), pattern(300, 2)
        first, second = self.file(one), self.file(two)

        def answer(host, stream):
            with open(first.name, "rb") as a, open(second.name, "rb") as b:
                tokens = host.hand(stream, a), host.hand(stream, b)
            host.send(
                [HEAD, stream, 200, [], None],
                [DATA, stream, b"begin"],
                [FILE, stream, tokens[0], 0, 100_000],
                [DATA, stream, pattern(20_000, 3)],
                [FILE, stream, tokens[1], 0, 300],
                [FILE, stream, tokens[0], 99_990, 10],
                [FILE, stream, tokens[0], 0, 10],
                [DATA, stream, b"end"],
                [END, stream, None],
            )

        host = self.serve(answer)
        client = self.client(host)
        client.ask(version="1.0")
        client.head()
        wanted = b"begin" + one + pattern(20_000, 3) + two + one[99_990:] + one[:10] + b"end"
        self.assertEqual(client.rest() == wanted, True)
        self.assertEqual(host.errors, [])

    def test_pipelined(self):
        data = pattern(150_000)
        host = self.serve(self.whole(self.file(data).name, 150_000))
        client = self.client(host)
        for _ in range(5):
            client.ask()
        for _ in range(5):
            client.head()
            self.assertEqual(client.body(150_000) == data, True)

    def test_a_client_that_is_slow(self):
        data = pattern(3_000_000)
        host = self.serve(self.whole(self.file(data).name, 3_000_000))
        client = self.client(host, receive=4096)
        client.ask()
        client.head()
        self.assertEqual(client.body(3_000_000) == data, True)

    def test_it_costs_64_bytes_of_the_window(self):
        file = self.file(pattern(1000))

        def answer(host, stream):
            with open(file.name, "rb") as f:
                token = host.hand(stream, f)
            host.send([HEAD, stream, 200, [], None], *[[FILE, stream, token, 0, 1000]] * 64)

        host = self.serve(answer, {"window": 4096, "max_frame": 131072})
        client = self.client(host)
        client.ask()
        client.head()
        client.body(64 * 1000)
        host.until(lambda: host.room >= 2048)
        stream = host.streams[0]
        host.send([FILE, stream, host.last_token, 0, 1000], [END, stream, None])
        host.until(lambda: host.ends)
        self.assertEqual(host.ends[stream], "done")

    def test_more_than_the_window_is_an_error(self):
        file = self.file(pattern(1000))

        def answer(host, stream):
            with open(file.name, "rb") as f:
                token = host.hand(stream, f)
            host.send([HEAD, stream, 200, [], None], *[[FILE, stream, token, 0, 1000]] * 65)

        host = self.serve(answer, {"window": 4096, "max_frame": 131072})
        client = self.client(host)
        client.ask()
        host.until(lambda: host.ends)
        self.assertEqual(host.errors, ["FILE message exceeds the window reset"])
        self.assertEqual(host.count("files"), 0)

    def test_a_head_request_and_304_have_none(self):
        data = pattern(1000)
        for method, status in ("HEAD", 200), ("GET", 304):
            file = self.file(data)

            def answer(host, stream, file=file, status=status):
                with open(file.name, "rb") as f:
                    token = host.hand(stream, f)
                host.send([HEAD, stream, status, [], 1000], [FILE, stream, token, 0, 1000], [END, stream, None])

            host = self.serve(answer)
            client = self.client(host)
            client.ask(method)
            self.assertIn(str(status), client.head())
            client.ask(method, more="Connection: close\r\n")
            self.assertIn(str(status), client.head())
            self.assertEqual(client.rest(), b"")
            self.assertEqual((host.errors, host.count("files")), ([], 0))

    def test_one_that_has_shrunk_cuts_the_answer(self):
        for size, cut in (300, 100), (3_000_000, 100_000), (3_000_000, 0):
            file = self.file(pattern(size))

            def answer(host, stream, file=file, size=size, cut=cut):
                with open(file.name, "rb") as f:
                    token = host.hand(stream, f)
                os.truncate(file.name, cut)
                host.send([HEAD, stream, 200, [], size], [FILE, stream, token, 0, size], [END, stream, None])

            host = self.serve(answer)
            client = self.client(host)
            client.ask()
            client.head()
            self.assertLess(len(client.rest()), size)
            host.until(lambda: host.ends)
            self.assertEqual(list(host.ends.values()), ["file"])
            self.assertEqual(host.count("files"), 0)
            cut = "response to GET / cut: its file is shorter than FILE said, or cannot be read"
            self.assertIn(cut, [text for _level, text in host.logs])

    def test_one_that_grows_is_no_longer(self):
        file = self.file(pattern(100_000))
        host = self.serve(self.whole(file.name, 100_000))
        client = self.client(host)
        file.seek(0, 2)
        for _ in range(2):
            client.ask()
            file.write(bytes(100_000))
            file.flush()
            client.head()
            self.assertEqual(client.body(100_000) == pattern(100_000), True)
            self.assertEqual(client.input, b"")

    def test_a_client_that_leaves(self):
        size = 50_000_000
        host = self.serve(self.whole(self.file(bytes(size)).name, size))
        client = self.client(host)
        client.ask()
        client.body(1_000_000)
        client.socket.close()
        host.until(lambda: host.ends)
        self.assertIn(host.ends[host.streams[0]], ("closed", "reset"))
        self.assertEqual((host.count("files"), host.count("body_queued")), (0, 0))

    def test_wrong_uses(self):
        file = self.file(pattern(1000))
        other = {}

        def hand(host, stream):
            with open(file.name, "rb") as f:
                return host.hand(stream, f)

        def unknown(host, stream):
            host.send([HEAD, stream, 200, [], None], [FILE, stream, 77, 0, 10])

        def of_another(host, stream):
            if not other:
                other["token"] = hand(host, stream)
            else:
                host.send([HEAD, stream, 200, [], None], [FILE, stream, other["token"], 0, 10])

        def beyond_the_length(host, stream):
            host.send([HEAD, stream, 200, [], 10], [FILE, stream, hand(host, stream), 0, 11])

        def before_the_head(host, stream):
            host.send([FILE, stream, hand(host, stream), 0, 10])

        def of_no_length(host, stream):
            token = hand(host, stream)
            host.send([HEAD, stream, 200, [], None], [FILE, stream, token, 0, 0], [FILE, stream, token, 2**62, 10], [END, stream, None])

        wrongs = [
            (unknown, "FILE token names no file that was handed over for this stream reset"),
            (beyond_the_length, "FILE length exceeds the declared length reset"),
            (before_the_head, "FILE message the response has not begun, or has ended reset"),
        ]
        for answer, error in wrongs:
            host = self.serve(answer)
            client = self.client(host)
            client.ask()
            host.until(lambda: host.ends)
            self.assertEqual(host.errors, [error])
            self.assertEqual(host.count("files"), 0)
        host = self.serve(of_another)
        self.client(host).ask()
        host.until(lambda: other)
        client = self.client(host)
        client.ask()
        host.until(lambda: host.ends)
        self.assertEqual(host.errors, ["FILE token names no file that was handed over for this stream reset"])
        host = self.serve(of_no_length)
        client = self.client(host)
        client.ask()
        client.head()
        self.assertEqual(client.body(5), b"0\r\n\r\n")
        host.until(lambda: len(host.errors) == 2)

    def test_parts_whose_lengths_have_no_sum(self):
        """Sixteen parts of 2**60 bytes are 2**64, which would count as 0: as a complete response."""
        file = self.file(pattern(200_000))

        def answer(host, stream):
            with open(file.name, "rb") as f:
                token = host.hand(stream, f)
            host.send([HEAD, stream, 200, [], None], *[[FILE, stream, token, 0, 2**60]] * 16, [END, stream, None])

        for version in "1.1", "1.0":
            host = self.serve(answer)
            self.client(host).ask(version=version)
            host.until(lambda: host.ends)
            self.assertEqual(host.ends[host.streams[0]], "error")
            self.assertIn("FILE length is too large together with what came before it reset", host.errors)
            self.assertEqual((host.count("files"), host.count("body_queued")), (0, 0))

    def hand_once(self, host, file, opened):
        """Hands the file over for all streams, and notes its token."""
        if not opened:
            with open(file.name, "rb") as f:
                opened.append(host.hand(0, f, use=FILE_OF_ALL))

    def test_a_file_of_all_streams(self):
        data = pattern(3_000_000)
        file = self.file(data)
        opened = []

        def answer(host, stream):
            self.hand_once(host, file, opened)
            host.send([HEAD, stream, 200, [], len(data)], [FILE, stream, opened[0], 0, len(data)], [END, stream, None])

        host = self.serve(answer)
        first, second = self.client(host, receive=4096), self.client(host)
        first.ask()
        first.head()
        second.ask()  # while the first one is at another place of the file
        second.head()
        self.assertEqual(second.body(len(data)) == data, True)
        host.send([CLOSE_FILE, opened[0]])
        self.assertEqual(host.count("files"), 0)
        self.assertEqual(first.body(len(data)) == data, True)  # what was named before is sent all the same
        host.until(lambda: len(host.ends) == 2)
        self.assertEqual(host.errors, [])
        second.ask()
        host.until(lambda: len(host.ends) == 3)
        self.assertEqual(host.errors, ["FILE token names no file that was handed over for this stream reset"])

    def test_a_file_of_all_streams_over_http2(self):
        data = pattern(1_000_000)
        file = self.file(data)
        opened = []

        def answer(host, stream):
            self.hand_once(host, file, opened)
            part = [HEAD, stream, 200, [], 500_010], [FILE, stream, opened[0], 500_000, 500_000], [FILE, stream, opened[0], 0, 10]
            host.send(*part, [END, stream, None])

        host = self.serve(answer)
        client = H2Client(host)
        self.addCleanup(client.socket.close)
        for stream in 1, 3, 5:
            client.get(stream)
        client.until(lambda: client.ended == {1, 3, 5})
        for stream in 1, 3, 5:
            self.assertEqual(bytes(client.bodies[stream]) == data[500_000:] + data[:10], True)
        host.until(lambda: len(host.ends) == 3)
        self.assertEqual((host.count("files"), host.count("body_queued"), host.errors), (1, 0, []))

    def test_http2(self):
        for size in 1, 100, 16_384, 16_385, 1_000_000:
            data = pattern(size, size)
            host = self.serve(self.whole(self.file(data).name, size))
            client = H2Client(host)
            self.addCleanup(client.socket.close)
            for stream in 1, 3, 5:
                client.get(stream)
            client.until(lambda client=client: client.ended == {1, 3, 5})
            for stream in 1, 3, 5:
                self.assertEqual(bytes(client.bodies[stream]) == data, True)
            host.until(lambda host=host: len(host.ends) == 3)
            self.assertEqual((host.count("files"), host.count("body_queued"), host.errors), (0, 0, []))

    def test_http2_between_other_data(self):
        data = pattern(100_000)
        file = self.file(data)

        def answer(host, stream):
            with open(file.name, "rb") as f:
                token = host.hand(stream, f)
            host.send(
                [HEAD, stream, 200, [], None],
                [DATA, stream, b"begin"],
                [FILE, stream, token, 10, 10],
                [DATA, stream, pattern(20_000, 3)],
                [FILE, stream, token, 0, 100_000],
                [FILE, stream, token, 0, 1],
                [END, stream, ["x-sum", b"1"]],
            )

        host = self.serve(answer)
        client = H2Client(host)
        self.addCleanup(client.socket.close)
        client.get(1)
        client.until(lambda: client.ended)
        wanted = b"begin" + data[10:20] + pattern(20_000, 3) + data + data[:1]
        self.assertEqual(bytes(client.bodies[1]) == wanted, True)

    def test_http2_waits_for_the_window(self):
        data = pattern(300_000)
        host = self.serve(self.whole(self.file(data).name, 300_000))
        client = H2Client(host, window=1000)
        self.addCleanup(client.socket.close)
        client.get(1)
        while 1 not in client.ended:
            have = len(client.bodies.get(1, b""))
            client.until(lambda have=have: len(client.bodies.get(1, b"")) > have or client.ended)
            client.socket.sendall(h2.window(1, 5000))
        self.assertEqual(bytes(client.bodies[1]) == data, True)

    def test_http2_one_that_has_shrunk_costs_its_stream_alone(self):
        short, data = self.file(pattern(300_000)), pattern(200_000)
        whole = self.whole(self.file(data).name, 200_000)

        def answer(host, stream):
            if len(host.streams) > 1:
                whole(host, stream)
                return
            with open(short.name, "rb") as f:
                token = host.hand(stream, f)
            os.truncate(short.name, 100_000)
            host.send([HEAD, stream, 200, [], 300_000], [FILE, stream, token, 0, 300_000], [END, stream, None])

        host = self.serve(answer)
        client = H2Client(host)
        self.addCleanup(client.socket.close)
        client.get(1)
        client.get(3)
        client.until(lambda: 3 in client.ended and client.resets)
        self.assertEqual(client.resets, {1: "INTERNAL_ERROR"})
        self.assertEqual(bytes(client.bodies[3]) == data, True)
        host.until(lambda: len(host.ends) == 2)
        self.assertEqual(sorted(host.ends.values()), ["done", "file"])

    def test_compressed(self):
        import gzip

        data = b"text and more text\n" * 50_000
        file = self.file(data)

        def answer(host, stream):
            with open(file.name, "rb") as f:
                token = host.hand(stream, f)
            head = [HEAD, stream, 200, ["content-type", b"text/plain"], len(data)]
            host.send(head, [FILE, stream, token, 0, len(data)], [END, stream, None])

        host = self.serve(answer, {"compress": ["gzip"]})
        client = self.client(host)
        client.ask(more="Accept-Encoding: gzip\r\nConnection: close\r\n")
        self.assertIn("gzip", client.head())
        body = client.rest()
        self.assertLess(len(body), 100_000)
        plain, at = b"", 0
        while at < len(body):  # chunks
            end = body.index(b"\r\n", at)
            n = int(body[at:end], 16)
            plain, at = plain + body[end + 2 : end + 2 + n], end + 4 + n
            if n == 0:
                break
        self.assertEqual(gzip.decompress(plain) == data, True)
        host.until(lambda: host.ends)
        self.assertEqual((host.count("files"), host.count("body_queued")), (0, 0))

    def test_the_program_opens_nothing_and_stays_within_its_filter(self):
        data = pattern(1_000_000)
        host = self.serve(self.whole(self.file(data).name, 1_000_000), {"sandbox": "best_effort"})
        client = self.client(host)
        client.ask()
        client.head()
        self.assertEqual(client.body(1_000_000) == data, True)
        self.assertIsNone(host.process.poll())

    def test_what_is_not_in_memory_holds_nobody_up(self):
        size = 20_000_000
        file = self.file(pattern(size))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        host = self.serve(self.whole(file.name, size))
        client = self.client(host)
        client.ask()
        client.head()
        self.assertEqual(client.body(size) == pattern(size), True)

    def test_others_have_their_turn(self):
        size = 64_000_000_000  # so that it has not left completely, however long this process has to wait for its turn
        file = tempfile.NamedTemporaryFile()
        self.addCleanup(file.close)
        os.truncate(file.name, size)
        big = self.whole(file.name, size)
        host = self.serve(lambda host, stream: big(host, stream) if stream == 1 else host.send([HEAD, stream, 204, [], None]))
        client = self.client(host)
        client.ask()
        client.head()
        pid = os.fork()
        if pid == 0:  # reads as fast as it can
            while client.socket.recv(1 << 20):
                pass
            os._exit(0)
        client.socket.close()
        other = self.client(host)
        for _ in range(20):
            other.ask()
            self.assertIn("204", other.head())
        self.assertEqual(host.ends.get(1), None)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        host.until(lambda: host.ends.get(1))


if __name__ == "__main__":
    unittest.main()
