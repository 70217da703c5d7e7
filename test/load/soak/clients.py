# SPDX-License-Identifier: Apache-2.0
"""Clients that do a little of everything, and check each answer: HTTP/1.1, HTTP/2, WebSockets, and leaving in the middle."""

import asyncio
import collections
import random
import struct
import socket
import zlib

from lib import h2, ws

PATTERN = bytes(range(251)) * 4000
PATIENCE = 60.0  # s: an answer that takes longer is a wrong one


class Wrong(Exception):
    pass


def expect(fine, what):
    if not fine:
        raise Wrong(what)


def size(rng, most):
    """Small ones mostly."""
    return int(most ** rng.random())


def noise(rng, n):
    at = rng.randrange(251)
    return PATTERN[at : at + n]


async def doing(act, done):
    """Describes what was being done, for fault messages."""
    try:
        return await asyncio.wait_for(done, PATIENCE)
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
        raise Wrong(f"{act.__name__}: {type(error).__name__} {error}") from error


class Tally:
    def __init__(self):
        self.counts, self.wrong = collections.Counter(), []

    def done(self, what):
        self.counts[what] += 1

    def error(self, client, error):
        self.wrong.append(f"{client}: {type(error).__name__}: {error}"[:300])


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.last = False  # the server closes behind the answer

    @classmethod
    async def open(cls, address):
        return cls(*await asyncio.open_connection(*address, limit=1 << 21))

    async def send(self, *data):
        self.writer.writelines(data)
        await self.writer.drain()

    def close(self):
        self.writer.close()

    def reset(self):
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def head(self):
        lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.last = fields.get("connection") == "close"
        return int(lines[0].split()[1]), fields

    async def body(self, fields):
        if fields.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(fields.get("content-length", 0)))
        whole = bytearray()
        while n := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
            whole += (await self.reader.readexactly(n + 2))[:-2]
        expect(await self.reader.readexactly(2) == b"\r\n", "more behind the last chunk")
        return bytes(whole)

    async def answer(self, status, body=None):
        got, fields = await self.head()
        while got < 200:
            got, fields = await self.head()
        whole = await self.body(fields)
        expect(got == status, f"{got} instead of {status}")
        expect(body is None or whole == body, f"{len(whole)} other bytes instead of {len(body or b'')}")
        return fields


# ---- HTTP/1.1


def request(method, target, *fields):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *fields, "\r\n"]).encode()


def chunked(rng, data):
    at = 0
    while at < len(data):
        n = 1 + size(rng, 30000)
        piece = data[at : at + n]
        yield b"%x\r\n" % len(piece) + piece + b"\r\n"
        at += n
    yield b"0\r\n\r\n"


async def get(c, rng):
    await c.send(request("GET", "/"))
    await c.answer(200, b"ok")


async def download(c, rng):
    n = size(rng, 1000000)
    how = rng.choice(["whole", "streamed"])
    await c.send(request("GET", f"/bytes?{how}={n}"))
    await c.answer(200, PATTERN[:n])


async def pipelined(c, rng):
    sizes = [size(rng, 5000) for _ in range(rng.randint(2, 12))]
    await c.send(b"".join(request("GET", f"/bytes?whole={n}") for n in sizes))
    for n in sizes:
        await c.answer(200, PATTERN[:n])


async def upload(c, rng):
    data = noise(rng, size(rng, 500000))
    await c.send(request("PUT", "/sum", f"Content-Length: {len(data)}"), data)
    await c.answer(200, b"%d %d" % (len(data), zlib.crc32(data)))


async def upload_in_chunks(c, rng):
    data = noise(rng, size(rng, 500000))
    await c.send(request("PUT", "/sum", "Transfer-Encoding: chunked"))
    for piece in chunked(rng, data):
        await c.send(piece)
    await c.answer(200, b"%d %d" % (len(data), zlib.crc32(data)))


async def upload_when_told(c, rng):
    data = noise(rng, size(rng, 50000))
    await c.send(request("PUT", "/sum", f"Content-Length: {len(data)}", "Expect: 100-continue"))
    status, _ = await c.head()
    expect(status == 100, f"{status} instead of 100")
    await c.send(data)
    await c.answer(200, b"%d %d" % (len(data), zlib.crc32(data)))


async def mirror(c, rng):
    data = noise(rng, size(rng, 500000))
    sender = asyncio.create_task(c.send(request("POST", "/mirror", f"Content-Length: {len(data)}"), data))
    await c.answer(200, data)
    await sender


async def failure(c, rng):
    await c.send(request("GET", "/fails"))
    await c.answer(500)
    return True


async def nonsense(c, rng):
    await c.send(request("GET", "/", "No colon"))
    await c.answer(400)
    return True


async def leave_in_head(c, rng):
    await c.send(request("GET", "/")[: rng.randint(1, 20)])
    return True


async def leave_in_upload(c, rng):
    await c.send(request("PUT", rng.choice(["/sum", "/mirror"]), "Content-Length: 900000"), noise(rng, size(rng, 300000)))
    return True


async def leave_in_download(c, rng):
    await c.send(request("GET", "/bytes?streamed=1000000"))
    await c.reader.readexactly(1 + size(rng, 100000))
    return True


H1 = [get] * 8 + [download] * 4 + [pipelined, upload, upload_in_chunks, upload_when_told, mirror] * 2
H1 += [failure, nonsense, leave_in_head, leave_in_upload, leave_in_download]


async def h1_client(address, rng, tally):
    c = await Connection.open(address)
    try:
        for _ in range(rng.randint(1, 60)):
            act = rng.choice(H1)
            over = await doing(act, act(c, rng))
            tally.done("HTTP/1.1 " + act.__name__)
            if over or c.last:
                break
    finally:
        c.reset() if rng.random() < 0.3 else c.close()


# ---- HTTP/2: batches of streams on a connection


class Stream:
    def __init__(self, rng):
        self.body, self.status, self.ended = bytearray(), None, False
        kind = rng.randrange(4)
        n = size(rng, 300000)
        if kind == 0:
            self.path, self.data, self.expected = "/", None, b"ok"
        elif kind == 1:
            self.path, self.data, self.expected = f"/bytes?{rng.choice(['whole', 'streamed'])}={n}", None, PATTERN[:n]
        elif kind == 2:
            self.path, self.data = "/mirror", noise(rng, size(rng, 60000))
            self.expected = self.data
        else:
            self.path, self.data = "/sum", noise(rng, size(rng, 60000))
            self.expected = b"%d %d" % (len(self.data), zlib.crc32(self.data))
        self.leaves = rng.random() < 0.05

    def check(self):
        expect(self.status == "200", f"{self.status} for {self.path}")
        expect(self.body == self.expected, f"{len(self.body)} other bytes for {self.path}")


class H2:
    def __init__(self, connection, rng):
        self.c, self.rng, self.decoder = connection, rng, h2.Decoder()
        self.next, self.streams = 1, {}
        self.window, self.acked = 65535, asyncio.Event()

    async def start(self):
        await self.c.send(h2.PREFACE, h2.settings((h2.INITIAL_WINDOW_SIZE, 1 << 20)), h2.window(0, 1 << 24))

    async def frame(self):
        head = await self.c.reader.readexactly(9)
        payload = await self.c.reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def ask(self, stream):
        number, self.next = self.next, self.next + 2
        self.streams[number] = stream
        fields = [(":method", "POST" if stream.data is not None else "GET"), (":scheme", "http"), (":path", stream.path), (":authority", "a")]
        out = [h2.headers(number, fields, end=stream.data is None)]
        if stream.leaves:
            return out + [h2.rst(number)]
        return out + self.bodies(number, stream.data)

    def bodies(self, number, data):
        """Bodies smaller than a stream's window; the port opens the connection's window as they arrive."""
        if data is None:
            return []
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)] or [b""]
        return [h2.data(number, piece, end=i == len(pieces) - 1) for i, piece in enumerate(pieces)]

    async def batch(self):
        """Several streams at once, whose bodies fit the connection's window, until all have ended."""
        self.streams, out = {}, []
        room = self.window
        for _ in range(self.rng.randint(1, 20)):
            stream = Stream(self.rng)
            if len(stream.data or b"") > room:
                break
            room -= len(stream.data or b"")
            out += self.ask(stream)
        if self.rng.random() < 0.2:
            out.append(h2.ping())
        self.window = room
        sender = asyncio.create_task(self.c.send(*out))
        while any(not s.ended and not s.leaves for s in self.streams.values()):
            await self.take(*await self.frame())
        await sender
        for s in self.streams.values():
            s.leaves or s.check()
        return len(self.streams)

    async def take(self, kind, flags, number, payload):
        stream = self.streams.get(number)
        if kind == h2.SETTINGS and not flags & h2.ACK:
            await self.c.send(h2.settings(ack=True))
        elif kind == h2.GOAWAY:
            raise Wrong(f"GOAWAY {h2.ERRORS[int.from_bytes(payload[4:8], 'big')]}")
        elif kind == h2.WINDOW_UPDATE and number == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == h2.RST_STREAM:
            expect(stream is None or stream.leaves, f"RST_STREAM {payload.hex()}")
        elif kind == h2.HEADERS:
            fields = dict(self.decoder.decode(payload))
            if stream:
                stream.status = fields.get(":status", stream.status)
        elif kind == h2.DATA:
            await self.credit(number, stream, len(payload))
            if stream:
                stream.body += payload
        if stream and flags & h2.END_STREAM and kind in (h2.HEADERS, h2.DATA):
            stream.ended = True

    async def credit(self, number, stream, n):
        if n:
            await self.c.send(h2.window(0, n), h2.window(number, n) if stream else b"")


async def h2_client(address, rng, tally):
    c = await Connection.open(address)
    try:
        session = H2(c, rng)
        await session.start()
        for _ in range(rng.randint(1, 12)):
            tally.counts["HTTP/2 requests"] += await doing(session.batch, session.batch())
        if rng.random() < 0.3:
            await c.send(*session.ask(Stream(rng)))
    finally:
        c.reset() if rng.random() < 0.3 else c.close()


# ---- WebSockets


async def ws_frame(c):
    first, second = await c.reader.readexactly(2)
    n = second & 127
    if n > 125:
        n = int.from_bytes(await c.reader.readexactly(2 if n == 126 else 8), "big")
    return first & 15, await c.reader.readexactly(n), bool(first & 0x80), first >> 4 & 7


async def ws_message(c, deflate):
    opcode, data, fin, rsv = await ws_frame(c)
    while not fin:
        more, piece, fin, _ = await ws_frame(c)
        expect(more == ws.CONTINUATION, f"opcode {more} inside of a message")
        data += piece
    return opcode, deflate.unpack(data) if rsv else data


async def ws_echo(c, rng, deflate):
    """Some messages in a row, in one frame or in several, and their echoes."""
    sent = [(rng.choice([ws.TEXT, ws.BINARY]), noise(rng, size(rng, 100000))) for _ in range(rng.randint(1, 6))]
    sent = [(opcode, bytes(b & 127 for b in data) if opcode == ws.TEXT else data) for opcode, data in sent]
    out = []
    for opcode, data in sent:
        packed, rsv = (deflate.pack(data), 4) if deflate else (data, 0)
        cut = rng.randint(0, len(packed))
        out.append(ws.fragments(opcode, packed[:cut], packed[cut:], rsv=rsv) if rng.random() < 0.3 else ws.frame(opcode, packed, rsv=rsv))
    sender = asyncio.create_task(c.send(*out))
    for opcode, data in sent:
        got, echo = await ws_message(c, deflate)
        expect(got == opcode and echo == data, f"another echo: {got} of {len(echo)} instead of {opcode} of {len(data)}")
    await sender
    return len(sent)


async def ws_ping(c, rng, deflate):
    text = noise(rng, rng.randint(0, 125))
    await c.send(ws.frame(ws.PING, text))
    opcode, payload, _, _ = await ws_frame(c)
    expect(opcode == ws.PONG and payload == text, f"opcode {opcode} instead of a pong")
    return 1


async def ws_client(address, rng, tally):
    c = await Connection.open(address)
    try:
        compress = rng.random() < 0.4
        fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {ws.KEY}"]
        fields += ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12"] if compress else []
        await c.send(request("GET", "/echo", *fields))
        status, agreed = await c.head()
        expect(status == 101, f"{status} instead of 101")
        expect(compress == ("sec-websocket-extensions" in agreed), "compression was not agreed as it was offered")
        deflate = ws.Deflate(12, 12, False, False) if compress else None
        for _ in range(rng.randint(1, 30)):
            act = rng.choice([ws_echo, ws_echo, ws_ping])
            tally.counts["WebSocket messages"] += await doing(act, act(c, rng, deflate))
        if rng.random() < 0.7:
            await c.send(ws.close(1000))
            opcode, payload, _, _ = await ws_frame(c)
            expect(opcode == ws.CLOSE and payload[:2] == b"\x03\xe8", "no Close 1000")
            tally.done("WebSocket closed")
    finally:
        c.reset() if rng.random() < 0.3 else c.close()


# ---- all of them


async def again_and_again(client, address, seed, tally, over):
    rng = random.Random(seed)
    while not over():
        try:
            await client(address, rng, tally)
        except (Wrong, OSError, EOFError, ValueError, asyncio.TimeoutError, zlib.error) as error:
            tally.error(f"{client.__name__} {seed}", error)


async def run(address, clients, seed, tally, over):
    kinds = [h1_client] * 3 + [h2_client, ws_client]
    tasks = [again_and_again(kinds[i % len(kinds)], address, f"{seed}/{i}", tally, over) for i in range(clients)]
    await asyncio.gather(*tasks)
