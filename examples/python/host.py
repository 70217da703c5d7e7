#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A host for sparx_port: it starts the program, and answers the requests that come over the pipe (PROTOCOL.md).

    python3 host.py [--port 4000] [--host 127.0.0.1]

It needs python3-msgpack and the program: the one that SPARX_PORT names, or the one of this repository, or the one in PATH.
"""

import argparse
import asyncio
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
import traceback
import urllib.parse

import msgpack
from protocol import (
    ABORT, BODY, BODY_END, CLOSE, CLOSED, COMPLETE, DATA, DEMAND, DONE, DRAIN, DRAINED, END, ERROR, FILE, GONE, HANGUP, HEAD, HELLO,
    LOG, METHODS, NAMES, READ, READY, RECV, RELEASE, REQUEST, RESPOND, ROOM, SEND, UPGRADE,
)  # fmt: skip

CHUNK = 65000  # bytes of a chunk of a body, and of a DATA
AHEAD = 2  # chunks of a request body that may be on their way
INLINE = 16384  # bytes of a request body that may come with its request
FRAME = 262144  # bytes of messages after which a new frame begins
TEXT, BINARY = 1, 2
FILE_COST = 64  # bytes of room that a part of a file costs, whatever its length
SEND_COST = 16  # bytes of room that a message of a WebSocket, or a piece of one, costs in addition to its data


class Gone(Exception):
    """The client has left, or a limit was exceeded. A handler does not have to catch it."""


class Request:
    """One exchange (a stream). Its methods wait for credit, or for the client."""

    def __init__(self, host, stream, head):
        self.host, self.stream = host, stream
        version, method, scheme, self.authority, self.path, self.query, _target, body, self.flags = head[:9]
        self.version, self.scheme = version, ("http", "https")[scheme]
        self.method = METHODS[method] if isinstance(method, int) else method
        self.peer, self.peer_port, self.listener, self.flat = head[9], head[10], head[11], head[13]
        self.room = host.window  # bytes that may be sent
        self.chunks, self.granted, self.body_ended = [], 0, body is None
        self.answered = self.released = self.left = False  # left: the handler has ended
        self.bodiless = False  # the response has no body: it is complete with its head
        self.socket = None  # a WebSocket, once accepted
        self.hung_up = False  # the client has closed its side: most clients have left then, some wait for the response
        self.over = None  # why the stream has ended
        self.news = asyncio.Event()

    @property
    def headers(self):
        """Pairs of a name (str, lower case) and a value (bytes)."""
        return [(NAMES[n] if isinstance(n, int) else n, v) for n, v in zip(self.flat[::2], self.flat[1::2])]

    async def wait(self):
        """Waits for the next message about this stream."""
        if self.over:
            raise Gone(self.over)
        self.news.clear()
        await self.news.wait()

    async def client_left(self):
        """Returns when the client has closed its side, or the exchange has ended."""
        while not self.hung_up and not self.over:
            await self.wait()

    async def unless_left(self, awaitable):
        """Waits for something else, such as a queue of events; raises Gone if the client leaves first. Otherwise an idle response would stay for ever, since nothing is written that would show that the client has left."""
        tasks = [asyncio.ensure_future(awaitable), asyncio.ensure_future(self.client_left())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise Gone(self.over or "hangup")
            return tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()

    async def read(self):
        """The next chunk of the request body; b"" when it has ended. The client is read no faster than this is called."""
        while not self.chunks and not self.body_ended:
            if self.granted < AHEAD and not self.over:
                self.host.send(READ, self.stream, AHEAD - self.granted, CHUNK)
                self.granted = AHEAD
            await self.wait()
        if not self.chunks:
            return b""
        self.granted -= 1
        return self.chunks.pop(0)

    async def respond(self, status, headers=(), body=b""):
        """Sends a complete response; one that is larger than the window is streamed."""
        if len(body) > self.room:
            self.start(status, headers, len(body))
            await self.write(body)
            return self.finish()
        self.answered = True
        self.room -= len(body)
        self.host.send(RESPOND, self.stream, status, flat(headers), body)
        self.news.set()

    def start(self, status, headers=(), length=None):
        self.bodiless = self.method == "HEAD" or status in (204, 205, 304)
        self.host.send(HEAD, self.stream, status, flat(headers), length)

    async def write(self, data):
        """Sends a part of a streamed response: returns when all of it is in the window, so as fast as the client reads."""
        if self.bodiless:
            return
        rest = memoryview(data)
        while rest:
            n = await self.take_room(len(rest))
            self.host.send(DATA, self.stream, bytes(rest[:n]))
            rest = rest[n:]

    async def write_file(self, fd, offset, length):
        """Sends a part of an open file. The port reads the file, and this function returns at once; if that is not possible, this function reads and writes
        the bytes. The file can be
        closed afterwards."""
        if self.bodiless or length == 0:
            return
        token = self.host.channel and self.host.channel.hand(self.stream, fd)
        if token:
            await self.take_room(0, FILE_COST)
            return self.host.send(FILE, self.stream, token, offset, length)
        while length > 0:
            data = await self.host.loop.run_in_executor(None, os.pread, fd, min(length, CHUNK), offset)
            if not data:
                raise EOFError(f"the file ends {length} bytes too early")
            await self.write(data)
            offset, length = offset + len(data), length - len(data)

    async def take_room(self, most, cost=0):
        """Waits for room for at most this many bytes plus `cost`, and for at least one byte, if there are any."""
        while self.room < cost + min(most, 1) or self.over:
            await self.wait()
        n = min(self.room - cost, most, CHUNK)
        self.room -= n + cost
        return n

    def finish(self, trailers=None):
        self.answered = True
        if not self.bodiless:
            self.host.send(END, self.stream, trailers and flat(trailers))
        self.news.set()

    def accept(self, headers=(), **options):
        """Makes it a WebSocket: the handler continues with the socket, and no longer counts as running."""
        self.answered = True
        self.socket = WebSocket(self)
        self.host.send(UPGRADE, self.stream, "websocket", flat(headers), options)
        self.host.release(self)
        return self.socket

    def heard(self, kind, fields):
        """Handles a message of the port about this stream."""
        if kind == BODY:
            self.chunks.append(fields[0])
        elif kind == BODY_END:
            self.body_ended = True
        elif kind == ROOM:
            self.room += fields[0]
        elif kind == HANGUP:
            self.hung_up = True
        elif kind == DONE:
            self.over = "done"
        elif kind == GONE:
            self.over = fields[0]
        elif self.socket:
            self.socket.heard(kind, fields)
        self.news.set()


class WebSocket:
    def __init__(self, request):
        self.request = request
        self.messages, self.pieces, self.asked = [], [], False
        self.closed = None  # (code, reason), once it is closed

    async def receive(self):
        """The next message, (TEXT or BINARY, bytes), or None at the end. Nothing is read before it is called."""
        while not self.messages:
            if self.closed or self.request.over:
                return None
            if not self.asked:
                self.request.host.send(READ, self.request.stream, 1, CHUNK)
                self.asked = True
            await self.request.wait()
        return self.messages.pop(0)

    async def send(self, kind, data):
        rest = memoryview(data)
        while True:
            n = await self.request.take_room(len(rest), SEND_COST)
            self.request.host.send(SEND, self.request.stream, kind, bytes(rest[:n]), len(rest) - n)
            rest = rest[n:]
            if not rest:
                return

    def close(self, code=1000, reason=""):
        self.request.host.send(CLOSE, self.request.stream, code, reason.encode())

    def heard(self, kind, fields):
        if kind == RECV:
            type_, data, left = fields[:3]
            self.pieces.append(data)
            if left == 0:
                message, self.pieces, self.asked = b"".join(self.pieces), [], False
                if type_ in (TEXT, BINARY):  # the port has answered pings
                    self.messages.append((type_, message))
        elif kind == CLOSED:
            self.closed = (fields[0], fields[1].decode(errors="replace"))


class Channel:
    """A unix socket over which open files are handed to the port (PROTOCOL.md, section 3.6). Only Linux has it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sparx-")  # only this user may enter it
        self.path = os.path.join(self.folder, "s")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket, self.most, self.streams, self.last = None, 0, set(), 0
        try:
            self.listener.bind(self.path)
            self.listener.listen(1)
        except OSError:
            self.stop_listening()
            raise

    def stop_listening(self):
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ready(self, info, pid):
        """After READY: accepts the connection of the port, if it has connected, and nobody else's."""
        if "descriptors" in info["features"]:
            connection = self.listener.accept()[0]
            if struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == pid:
                connection.setblocking(False)
                self.socket, self.most = connection, info["limits"]["max_files"]
        self.stop_listening()

    def hand(self, stream, fd):
        """Hands over the file; returns the token by which FILE names it, or None if it has to be read here."""
        if not self.socket or len(self.streams) >= self.most or not is_plain_file(fd):
            return None
        self.last += 1
        try:
            socket.send_fds(self.socket, [msgpack.packb([0, self.last, stream])], [fd])
        except OSError:
            return None
        self.streams.add(stream)
        return self.last


def open_channel():
    """None if there can be no channel: then everything goes through the pipe."""
    try:
        return Channel() if sys.platform == "linux" and hasattr(socket, "send_fds") else None
    except OSError as error:
        print(f"no channel for files: {error}", file=sys.stderr)
        return None


def is_plain_file(fd):
    """The port accepts only regular files that it cannot write."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def flat(headers):
    return [part for pair in headers for part in pair]


class Host(asyncio.SubprocessProtocol):
    """The program, with its options. `handler` is a coroutine function of a Request; `workers` of them run concurrently."""

    def __init__(self, handler, workers=256, on_ready=None, **options):
        self.handler, self.workers, self.on_ready, self.options = handler, workers, on_ready, options
        self.requests, self.tasks, self.outbox = {}, set(), []
        self.packer, self.unpacker = msgpack.Packer(), msgpack.Unpacker(raw=False, strict_map_key=False)
        self.input = bytearray()
        self.ready, self.window, self.drained = None, 0, False
        self.channel = None

    async def run(self):
        """Serves until it is drained; returns False if it ended otherwise."""
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.process, _ = await self.loop.subprocess_exec(lambda: self, program(), stderr=None)
        self.channel = open_channel()
        descriptors = {"descriptors": self.channel.path} if self.channel else {}
        self.send(HELLO, 1, {"inline_body": INLINE, **descriptors, **self.options})
        status = await self.ended
        if self.channel:
            self.channel.stop_listening()
        for request in self.requests.values():
            request.heard(GONE, ["closed"])
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)
        if not self.drained:
            print(f"sparx_port ended, status {status}", file=sys.stderr)
        return self.drained

    def drain(self, deadline=30000):
        """Stops accepting; the program ends when the last response has left, or at the deadline (ms)."""
        self.send(DRAIN, deadline)

    # Messages of one turn of the loop leave in one frame.

    def send(self, *message):
        if not self.outbox:
            self.loop.call_soon(self.flush)
        self.outbox.append(self.packer.pack(message))

    def flush(self):
        frames, payload, size = [], [], 0
        for message in self.outbox:
            if size + len(message) > FRAME and payload:
                frames += struct.pack(">I", size), *payload
                payload, size = [], 0
            payload.append(message)
            size += len(message)
        frames += struct.pack(">I", size), *payload
        self.outbox = []
        # No limit of our own: windows bound what can wait here.
        self.process.get_pipe_transport(0).write(b"".join(frames))

    def pipe_data_received(self, fd, data):
        self.input += data
        at = 0
        while len(self.input) - at >= 4:
            size = int.from_bytes(self.input[at : at + 4], "big")
            if len(self.input) - at - 4 < size:
                break
            self.unpacker.feed(self.input[at + 4 : at + 4 + size])
            at += 4 + size
            for kind, *fields in self.unpacker:
                self.heard(kind, fields)
        del self.input[:at]

    def pipe_connection_lost(self, fd, exc):
        if fd == 1:
            self.process.get_pipe_transport(0).close()

    def process_exited(self):
        if not self.ended.done():
            self.ended.set_result(self.process.get_returncode())

    # Unknown kinds, and fields beyond those read here, are ignored.

    def heard(self, kind, fields):
        if kind in (REQUEST, COMPLETE):
            request = Request(self, fields[0], msgpack.unpackb(fields[1], raw=False))
            self.requests[request.stream] = request
            if kind == COMPLETE:
                request.heard(BODY, fields[2:])
                request.heard(BODY_END, [None])
            task = self.loop.create_task(self.work(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif kind == READY:
            self.ready, self.window = fields[1], fields[1]["limits"]["window"]
            if self.channel:
                self.channel.ready(self.ready, self.process.get_pid())
            self.send(DEMAND, self.workers)
            if self.on_ready:
                self.on_ready(self.ready)
        elif kind == LOG:
            print(f"sparx_port: {fields[0]}: {fields[1]}", file=sys.stderr)
        elif kind == ERROR:
            print(f"sparx_port: wrong message {fields[0]}: {fields[2]}: {fields[3]} ({fields[4]})", file=sys.stderr)
        elif kind == DRAINED:
            self.drained = True
        elif kind in (BODY, BODY_END, ROOM, DONE, GONE, HANGUP, RECV, CLOSED):
            if request := self.requests.get(fields[0]):
                request.heard(kind, fields[1:])
                if kind in (DONE, GONE):
                    del self.requests[fields[0]]
                    if self.channel:
                        self.channel.streams.discard(fields[0])
                if kind == GONE and request.left:
                    self.send(RELEASE, request.stream)

    async def work(self, request):
        try:
            await self.handler(request)
            if not request.answered:
                raise Gone() if request.hung_up or request.over else RuntimeError(f"{request.method} {request.path} was not answered")
        except Gone:
            if not request.answered and not request.over:
                self.send(ABORT, request.stream, 500)  # the client has closed its side, and its handler has ended without an answer
        except Exception as error:
            if request.hung_up or request.over:  # errors because a client has left are worth one line, not more
                print(f"{request.method} {request.path}: its client had left: {error!r}", file=sys.stderr)
            else:
                traceback.print_exc()
            self.send(ABORT, request.stream, 500)
        finally:
            request.left = True
            self.release(request)
            if request.over and request.over != "done":
                self.send(RELEASE, request.stream)  # over HTTP/2 the client's stream counts until this RELEASE

    def release(self, request):
        """The worker is free: grants demand for another request, once per request."""
        if not request.released:
            request.released = True
            self.send(DEMAND, 1)


def program():
    ours = pathlib.Path(__file__).resolve().parents[2] / "priv/sparx_port"
    path = os.environ.get("SPARX_PORT") or (str(ours) if ours.exists() else shutil.which("sparx_port"))
    return path or sys.exit("There is no sparx_port: build it (make build), or name it in SPARX_PORT.")


def serve(handler, port, address="127.0.0.1", tls=None):
    """Runs a host until Ctrl-C or SIGTERM. Returns the exit status."""

    async def main():
        host = Host(handler, on_ready=lambda ready: say(ready, tls), listeners=[{"address": address, "port": port, "tls": tls}])
        stop_on_signals(host)
        return 0 if await host.run() else 1

    return asyncio.run(main())


def say(ready, tls=None):
    for listener in ready["listeners"]:
        address = listener["address"]
        print(address if address.startswith("unix:") else f"http{'s' if tls else ''}://{address}:{listener['port']}", flush=True)


def certificate(certfile, keyfile):
    """A listener's `tls` (PROTOCOL.md, section 7.2): one certificate and its key; None without them."""
    if not certfile:
        return None
    chain, key = (pathlib.Path(name).read_bytes() for name in (certfile, keyfile or certfile))
    return {"certificates": [{"chain": chain, "key": key}]}


def stop_on_signals(host, deadline=30000):
    """The first signal drains, for at most this many ms; a second one cuts the rest."""
    calls = iter((deadline,))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: host.drain(next(calls, 0)))


def options():
    parser = argparse.ArgumentParser(description="A host for sparx_port")
    parser.add_argument("--port", type=int, default=4000, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--certfile", metavar="FILE", help="serve over TLS with this certificate (PEM)")
    parser.add_argument("--keyfile", metavar="FILE", help="its key, if that is not in the same file")
    return parser


# ---- the application: handlers and their routes

PLAIN = [("content-type", b"text/plain")]


async def hello(request):
    await request.respond(200, PLAIN, b"Hello, world!\n")


async def upload(request):
    size, digest = 0, hashlib.sha256()
    while chunk := await request.read():
        size += len(chunk)
        digest.update(chunk)
    await request.respond(200, PLAIN, f"{size} bytes, sha256 {digest.hexdigest()}\n".encode())


async def download(request):
    text = urllib.parse.parse_qs(request.query or "", keep_blank_values=True).get("bytes", ["10000000"])[0]
    if not re.fullmatch("[0-9]{1,15}", text):
        return await request.respond(400, PLAIN, b"bytes is a number.\n")
    left = int(text)
    request.start(200, [("content-type", b"application/octet-stream")], left)
    while left and not request.bodiless:
        piece = b"." * min(left, CHUNK)
        await request.write(piece)
        left -= len(piece)
    request.finish()


async def events(request):
    """An event stream: a greeting, and then nothing, until the client leaves."""
    request.start(200, [("content-type", b"text/event-stream")])
    await request.write(b"data: hello\n\n")
    await request.unless_left(asyncio.Event().wait())


async def echo(request):
    if not request.flags & 8:
        return await request.respond(426, PLAIN, b"This is a WebSocket.\n")
    socket = request.accept()
    while message := await socket.receive():
        await socket.send(*message)


ROUTES = {
    ("GET", "/"): hello,
    ("PUT", "/upload"): upload,
    ("GET", "/download"): download,
    ("GET", "/events"): events,
    ("GET", "/echo"): echo,
}


async def route(request):
    handler = ROUTES.get(("GET" if request.method == "HEAD" else request.method, request.path))
    if handler:
        await handler(request)
    else:
        await request.respond(404, PLAIN, b"Not found.\n")


if __name__ == "__main__":
    given = options().parse_args()
    sys.exit(serve(route, given.port, given.host, certificate(given.certfile, given.keyfile)))
