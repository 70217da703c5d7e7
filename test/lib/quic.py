# SPDX-License-Identifier: Apache-2.0
"""A QUIC client that can send any frame, in correctly protected packets (RFC 9000, RFC 9001).

Unless a case decides otherwise, it behaves like a correct client: it acknowledges, repeats lost frames, grants credit, answers Retry.
"""

import os
import select
import socket
import struct
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import tls13

INITIAL, HANDSHAKE, APP, EARLY = "initial", "handshake", "app", "early"
LONG = {INITIAL: 0, EARLY: 1, HANDSHAKE: 2}
VERSION = 1
SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
RETRY_KEY, RETRY_NONCE = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"), bytes.fromhex("461599d35d632bf2239825bb")

ERRORS = (
    "NO_ERROR INTERNAL_ERROR CONNECTION_REFUSED FLOW_CONTROL_ERROR STREAM_LIMIT_ERROR STREAM_STATE_ERROR FINAL_SIZE_ERROR "
    "FRAME_ENCODING_ERROR TRANSPORT_PARAMETER_ERROR CONNECTION_ID_LIMIT_ERROR PROTOCOL_VIOLATION INVALID_TOKEN APPLICATION_ERROR "
    "CRYPTO_BUFFER_EXCEEDED KEY_UPDATE_ERROR AEAD_LIMIT_REACHED NO_VIABLE_PATH"
).split()

# ---- numbers


def number(n, size=None):
    """A variable-length integer, in the fewest bytes, or in `size` bytes."""
    size = size or (1 if n < 64 else 2 if n < 1 << 14 else 4 if n < 1 << 30 else 8)
    return (n | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


def read(data, at):
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise IndexError("a number is cut")
    return int.from_bytes(data[at : at + size], "big") & (1 << (8 * size - 2)) - 1, at + size


# ---- frames


def padding(n):
    return bytes(n)


def ping():
    return b"\x01"


def ack(ranges, delay=0):
    """ranges: [(first, last)], the highest first."""
    (low, high), *rest = ranges
    out = b"\x02" + number(high) + number(delay) + number(len(rest)) + number(high - low)
    for first, last in rest:
        out += number(low - last - 2) + number(last - first)
        low = first
    return out


def reset_stream(stream, code, size):
    return b"\x04" + number(stream) + number(code) + number(size)


def stop_sending(stream, code):
    return b"\x05" + number(stream) + number(code)


def crypto(offset, data):
    return b"\x06" + number(offset) + number(len(data)) + data


def new_token(token):
    return b"\x07" + number(len(token)) + token


def stream(id, data=b"", offset=0, fin=False):
    return bytes([0x0E | fin]) + number(id) + number(offset) + number(len(data)) + data


def max_data(n):
    return b"\x10" + number(n)


def max_stream_data(id, n):
    return b"\x11" + number(id) + number(n)


def max_streams(n, uni=False):
    return bytes([0x12 | uni]) + number(n)


def data_blocked(n):
    return b"\x14" + number(n)


def stream_data_blocked(id, n):
    return b"\x15" + number(id) + number(n)


def streams_blocked(n, uni=False):
    return bytes([0x16 | uni]) + number(n)


def new_connection_id(sequence, retire=0, cid=None, token=None):
    cid = os.urandom(8) if cid is None else cid
    return b"\x18" + number(sequence) + number(retire) + bytes([len(cid)]) + cid + (token or os.urandom(16))


def retire_connection_id(sequence):
    return b"\x19" + number(sequence)


def path_challenge(data=b"12345678"):
    return b"\x1a" + data


def path_response(data):
    return b"\x1b" + data


def connection_close(code, reason=b"", frame=0):
    return b"\x1c" + number(code) + number(frame) + number(len(reason)) + reason


def application_close(code, reason=b""):
    return b"\x1d" + number(code) + number(len(reason)) + reason


def handshake_done():
    return b"\x1e"


def datagram(data):
    return b"\x31" + number(len(data)) + data


NAMES = {
    0: "PADDING", 1: "PING", 2: "ACK", 3: "ACK", 4: "RESET_STREAM", 5: "STOP_SENDING", 6: "CRYPTO", 7: "NEW_TOKEN", 0x10: "MAX_DATA",
    0x11: "MAX_STREAM_DATA", 0x12: "MAX_STREAMS", 0x13: "MAX_STREAMS_UNI", 0x14: "DATA_BLOCKED", 0x15: "STREAM_DATA_BLOCKED",
    0x16: "STREAMS_BLOCKED", 0x17: "STREAMS_BLOCKED_UNI", 0x18: "NEW_CONNECTION_ID", 0x19: "RETIRE_CONNECTION_ID",
    0x1A: "PATH_CHALLENGE", 0x1B: "PATH_RESPONSE", 0x1C: "CLOSE", 0x1D: "APPLICATION_CLOSE", 0x1E: "HANDSHAKE_DONE",
}  # fmt: skip
# How many numbers follow the type
SHAPES = {0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1, 0x19: 1, 4: 3, 5: 2, 1: 0, 0x1E: 0}


def frames(data):
    """[(name, values...)] of a packet's payload."""
    found, at = [], 0
    while at < len(data):
        kind, at = read(data, at)
        values = []
        if kind == 0:
            while at < len(data) and data[at] == 0:
                at += 1
        elif kind in SHAPES:
            for _ in range(SHAPES[kind]):
                value, at = read(data, at)
                values.append(value)
        elif kind in (2, 3):
            values, at = read_ack(data, at, kind)
        elif kind == 6:
            offset, at = read(data, at)
            size, at = read(data, at)
            values, at = [offset, data[at : at + size]], at + size
        elif kind == 7:
            size, at = read(data, at)
            values, at = [data[at : at + size]], at + size
        elif 8 <= kind <= 15:
            values, at = read_stream(data, at, kind)
            kind = 8
        elif kind == 0x18:
            sequence, at = read(data, at)
            retire, at = read(data, at)
            size = data[at]
            values, at = [sequence, retire, data[at + 1 : at + 1 + size], data[at + 1 + size : at + 17 + size]], at + 17 + size
        elif kind in (0x1A, 0x1B):
            values, at = [data[at : at + 8]], at + 8
        elif kind in (0x1C, 0x1D):
            code, at = read(data, at)
            which, at = read(data, at) if kind == 0x1C else (0, at)
            size, at = read(data, at)
            values, at = [code, which, data[at : at + size]], at + size
        else:
            raise ValueError(f"the server sent a frame of type {kind:#x}")
        found.append((NAMES.get(kind, "STREAM"), *values))
    return found


def read_ack(data, at, kind):
    high, at = read(data, at)
    _, at = read(data, at)
    count, at = read(data, at)
    size, at = read(data, at)
    ranges = [(high - size, high)]
    for _ in range(count):
        gap, at = read(data, at)
        size, at = read(data, at)
        high = ranges[-1][0] - gap - 2
        ranges.append((high - size, high))
    counts = []
    for _ in range(3 if kind == 3 else 0):
        value, at = read(data, at)
        counts.append(value)
    return [ranges, counts], at


def read_stream(data, at, kind):
    id, at = read(data, at)
    offset, at = read(data, at) if kind & 4 else (0, at)
    size, at = read(data, at) if kind & 2 else (len(data) - at, at)
    return [id, offset, data[at : at + size], bool(kind & 1)], at + size


# ---- transport parameters

PARAMETERS = {
    "original_destination": 0, "idle_timeout": 1, "reset_token": 2, "udp_payload": 3, "data": 4, "stream_data_local": 5,
    "stream_data_remote": 6, "stream_data_uni": 7, "streams": 8, "streams_uni": 9, "ack_delay_exponent": 10, "ack_delay": 11,
    "no_migration": 12, "active_ids": 14, "initial_source": 15, "retry_source": 16, "datagram": 0x20,
}  # fmt: skip
OCTETS = ("original_destination", "reset_token", "initial_source", "retry_source", "no_migration", 13)


def write_parameters(pairs):
    out = b""
    for name, value in pairs:
        kind = PARAMETERS.get(name, name)
        value = value if isinstance(value, bytes) else number(value)
        out += number(kind) + number(len(value)) + value
    return out


def read_parameters(data):
    names = {kind: name for name, kind in PARAMETERS.items()}
    found, at = {}, 0
    while at < len(data):
        kind, at = read(data, at)
        size, at = read(data, at)
        name, value = names.get(kind, kind), data[at : at + size]
        found[name] = value if name in OCTETS or kind not in names else read(value, 0)[0]
        at += size
    return found


# ---- packets


class Keys:
    def __init__(self, secret, header=None):
        self.secret = secret
        self.aead = AESGCM(tls13.expand(secret, b"quic key", length=16))
        self.iv = int.from_bytes(tls13.expand(secret, b"quic iv", length=12), "big")
        # The header key stays the same when keys are updated
        self.header = header or Cipher(algorithms.AES(tls13.expand(secret, b"quic hp", length=16)), modes.ECB()).encryptor()

    def next(self):
        return Keys(tls13.expand(self.secret, b"quic ku"), self.header)

    def nonce(self, number):
        return (self.iv ^ number).to_bytes(12, "big")

    def mask(self, sample):
        return self.header.update(sample)[:5]


def initial_keys(cid):
    secret = tls13.extract(SALT, cid)
    return Keys(tls13.expand(secret, b"client in")), Keys(tls13.expand(secret, b"server in"))


def protect(keys, header, packet_number, size, payload):
    header = bytearray(header + (packet_number & (1 << 8 * size) - 1).to_bytes(size, "big"))
    sealed = keys.aead.encrypt(keys.nonce(packet_number), payload, bytes(header))
    mask = keys.mask(sealed[4 - size : 20 - size])
    header[0] ^= mask[0] & (0x0F if header[0] & 0x80 else 0x1F)
    for i in range(size):
        header[i - size] ^= mask[1 + i]
    return bytes(header) + sealed


def whole_number(cut, size, largest):
    """Appendix A.3."""
    window = 1 << 8 * size
    guess = (largest + 1) & ~(window - 1) | cut
    if guess <= largest + 1 - window // 2 and guess < (1 << 62) - window:
        return guess + window
    if guess > largest + 1 + window // 2 and guess >= window:
        return guess - window
    return guess


class Ranges:
    """Received packet numbers: [first, last], ascending."""

    def __init__(self):
        self.list = []

    def __contains__(self, n):
        return any(first <= n <= last for first, last in reversed(self.list))

    def add(self, n):
        at = len(self.list)
        while at and self.list[at - 1][0] > n:
            at -= 1
        self.list.insert(at, [n, n])
        if at + 1 < len(self.list) and self.list[at + 1][0] == n + 1:
            self.list[at][1] = self.list.pop(at + 1)[1]
        if at and self.list[at - 1][1] == n - 1:
            self.list[at - 1][1] = self.list.pop(at)[1]
        del self.list[:-64]

    @property
    def largest(self):
        return self.list[-1][1] if self.list else -1

    def frame(self):
        return ack([tuple(one) for one in reversed(self.list)][:32])


class Space:
    def __init__(self):
        self.next, self.received, self.due = 0, Ranges(), False
        self.tx = self.rx = None
        self.sent, self.acked = {}, Ranges()
        self.crypto, self.crypto_read, self.crypto_sent = {}, 0, 0
        self.input = b""


class Stream:
    """The received bytes of one stream, in order."""

    def __init__(self):
        self.pieces, self.data, self.read, self.size, self.reset, self.stopped = {}, b"", 0, None, None, None

    def add(self, offset, data, fin):
        if fin:
            self.size = offset + len(data)
        if offset + len(data) <= self.read and data:
            return
        self.pieces[offset] = max(self.pieces.get(offset, b""), data, key=len)
        moved = True
        while moved and self.pieces:
            moved = False
            for start in sorted(self.pieces):
                if start <= self.read:
                    piece = self.pieces.pop(start)[self.read - start :]
                    self.data += piece
                    self.read += len(piece)
                    moved = True

    @property
    def ended(self):
        return self.size is not None and self.read >= self.size


RESENT = 0.2  # seconds


class Client:
    """One connection. For cases to read: closed (its code, kind and reason), streams, heard (frames by name), facts of the handshake."""

    def __init__(self, address, name="localhost", alpn=(b"h3",), version=VERSION, ticket=None, early=False, token=b"", parameters=(), without=(),
                 cid=None, destination=None, hello=None, window=1 << 24, family=socket.AF_INET, source=None):  # fmt: skip
        self.address, self.version, self.token = address, version, token
        self.family, self.source = family, source
        self.sock = self.socket()
        self.cid = os.urandom(8) if cid is None else cid
        self.own = {self.cid}
        self.destination = os.urandom(18) if destination is None else destination
        self.original = self.destination
        given = {
            "initial_source": self.cid, "idle_timeout": 30000, "data": window, "stream_data_local": window, "stream_data_remote": window,
            "stream_data_uni": window, "streams": 0, "streams_uni": 100, "active_ids": 4, **dict(parameters),
        }  # fmt: skip
        self.parameters = write_parameters([pair for pair in given.items() if pair[0] not in without])
        self.tls = tls13.Tls(name, alpn, self.parameters, ticket, early)
        self.hello = hello or (lambda octets: octets)
        self.window, self.window_left = window, window
        self.spaces = {level: Space() for level in (INITIAL, HANDSHAKE, APP)}
        self.spaces[EARLY] = self.spaces[APP]
        self.early_keys = None
        self.streams, self.heard, self.answered_path = {}, {}, 0
        self.limits = {"data": 0, "streams": 0, "streams_uni": 0}
        self.stream_limits = {}
        self.offsets, self.spent = {}, 0
        self.cids = {}
        self.server, self.confirmed, self.established = {}, False, False
        self.closed, self.retried, self.versions, self.was_reset = None, 0, None, False
        self.phase_tx = self.phase_rx = 0
        self.octets_in = self.octets_out = self.datagrams_in = 0
        self.acks = self.resends = self.credits = True
        self.waiting = []
        self.rewrite = None  # a function of (level, payload) that returns the payload to send
        self.new_keys()

    def socket(self):
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        if self.source:
            sock.bind((self.source, 0))
        sock.connect(self.address)
        sock.setblocking(False)
        return sock

    def new_keys(self):
        self.spaces[INITIAL].tx, self.spaces[INITIAL].rx = initial_keys(self.destination)

    def close(self):
        self.sock.close()

    # ---- sending

    def packet(self, level, *parts, size=2, first=0, number_is=None, keys=None, length=None):
        """One protected packet. first: bits to set in its first byte that should not be set."""
        space = self.spaces[level]
        payload = b"".join(parts)
        if self.rewrite:
            payload = self.rewrite(level, payload)
        payload += bytes(max(0, 4 - size - len(payload) + 0))
        n = space.next if number_is is None else number_is
        space.next = max(space.next, n + 1)
        keys = keys or (self.early_keys if level == EARLY else space.tx)
        if level == APP:
            header = bytes([0x40 | self.phase_tx << 2 | size - 1 | first]) + self.destination
        else:
            header = bytes([0xC0 | LONG[level] << 4 | size - 1 | first]) + struct.pack(">I", self.version)
            header += bytes([len(self.destination)]) + self.destination + bytes([len(self.cid)]) + self.cid
            if level == INITIAL:
                header += number(len(self.token)) + self.token
            header += number(len(payload) + size + 16 if length is None else length, 2)
        if any(part[:1] not in (b"\0", b"\x02", b"\x1c", b"\x1d", b"") for part in parts):
            space.sent[n] = (time.monotonic(), level, parts)
        return protect(keys, header, n, size, payload)

    def transmit(self, octets):
        self.octets_out += len(octets)
        try:
            self.sock.send(octets)
        except OSError:
            pass

    def send(self, *parts, level=APP, **how):
        self.transmit(self.packet(level, *parts, **how))

    def send_initial(self, *parts, room=1200, **how):
        """An Initial that fills its datagram."""
        used = len(b"".join(parts)) + 16 + 2 + 7 + len(self.destination) + len(self.cid) + len(number(len(self.token))) + len(self.token) + 2
        self.send(*parts, padding(max(0, room - used)), level=INITIAL, **how)

    def send_hello(self, **how):
        hello = self.hello(self.tls.hello())
        space = self.spaces[INITIAL]
        for at in range(0, len(hello), 1000):
            self.send_initial(crypto(at, hello[at : at + 1000]), **how)
        space.crypto_sent = len(hello)
        self.install()

    def send_stream(self, id, data, fin=False, step=None):
        """Sends everything, within the server's limits; `step` lets time pass meanwhile."""
        step = step or (lambda: self.step(0.5))
        offset, end = self.offsets.get(id, 0), self.offsets.get(id, 0) + len(data)
        start = offset
        while offset < end or fin:
            limit = self.stream_limits.get(id, self.first_limit(id))
            room = min(limit - offset, self.limits["data"] - self.spent, 1150)
            if (room <= 0 and offset < end) or len(self.spaces[APP].sent) >= 48:
                if self.closed or (id in self.streams and self.streams[id].stopped is not None):
                    return
                step()
                continue
            piece = data[offset - start : offset - start + room]
            last = fin and offset + len(piece) == end
            self.send(stream(id, piece, offset, last))
            offset += len(piece)
            self.spent += len(piece)
            self.offsets[id] = offset
            if last:
                return

    def first_limit(self, id):
        return self.server.get("stream_data_uni" if id & 2 else "stream_data_remote", 0)

    def update_keys(self):
        self.spaces[APP].tx = self.spaces[APP].tx.next()
        self.phase_tx ^= 1

    def give_id(self, sequence, retire=0):
        """NEW_CONNECTION_ID with an id that this client recognizes when the server uses it."""
        cid = os.urandom(len(self.cid))
        self.own.add(cid)
        return new_connection_id(sequence, retire, cid)

    def rebind(self):
        """Continues the connection from another port, as behind a NAT."""
        self.sock.close()
        self.sock = self.socket()

    def new_destination(self):
        """Switches to another of the server's ids."""
        sequence = min(self.cids)
        self.destination = self.cids.pop(sequence)[0]
        return sequence

    # ---- receiving

    def step(self, patience=0.0):
        """Reads packets, or waits for them; repeats unacknowledged frames."""
        ready = select.select([self.sock], [], [], patience)[0]
        if ready:
            self.receive()
        self.resend()
        return ready

    def receive(self):
        for _ in range(64):
            try:
                data = self.sock.recv(65535)
            except BlockingIOError:
                break
            except OSError:
                break
            self.octets_in += len(data)
            self.datagrams_in += 1
            self.take_datagram(data)
        self.acknowledge()

    def take_datagram(self, data):
        waiting, self.waiting = self.waiting, []
        for one in [data, *waiting]:
            while one:
                one = one[self.take_packet(one) :]

    def take_packet(self, data):
        """Returns the length of the packet; packets for keys that are not known yet are kept."""
        first = data[0]
        if not first & 0x80:
            self.take_short(data)
            return len(data)
        version = struct.unpack_from(">I", data, 1)[0]
        at = 5
        at += 1 + data[at]
        source = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        if version == 0:
            self.versions = [one[0] for one in struct.iter_unpack(">I", data[at:])]
            return len(data)
        kind = first >> 4 & 3
        if kind == 3:
            self.take_retry(data, at, source)
            return len(data)
        level = {0: INITIAL, 2: HANDSHAKE}.get(kind)
        if level == INITIAL:
            size, at = read(data, at)
            at += size
        length, at = read(data, at)
        space = self.spaces[level]
        if space.rx is None:
            self.waiting.append(data[: at + length])
            return at + length
        payload = self.unseal(space, space.rx, data[: at + length], at)
        if payload is not None:
            if level == INITIAL and self.destination != source:
                self.destination = source
            self.take_frames(level, space, *payload)
        return at + length

    def unseal(self, space, keys, data, at):
        """(number, payload, first byte), or None."""
        mask = keys.mask(data[at + 4 : at + 20])
        first = data[0] ^ mask[0] & (0x0F if data[0] & 0x80 else 0x1F)
        size = (first & 3) + 1
        cut = int.from_bytes(bytes(a ^ b for a, b in zip(data[at : at + size], mask[1:])), "big")
        n = whole_number(cut, size, space.received.largest)
        header = bytes([first]) + data[1:at] + cut.to_bytes(size, "big")
        if not data[0] & 0x80 and (first >> 2 & 1) != self.phase_rx:
            keys = keys.next()
        try:
            payload = keys.aead.decrypt(keys.nonce(n), data[at + size :], header)
        except InvalidTag:
            return None
        if keys is not space.rx:
            space.rx = keys
            self.phase_rx ^= 1
            if self.phase_tx != self.phase_rx:
                self.update_keys()
        return n, payload, first

    def take_short(self, data):
        space = self.spaces[APP]
        if space.rx is None:
            self.waiting.append(data)
            return
        at = 1 + len(self.cid)
        opened = self.unseal(space, space.rx, data, at) if data[1:at] in self.own and len(data) >= at + 20 else None
        if opened:
            self.take_frames(APP, space, *opened)
        elif len(data) >= 21 and data[-16:] in self.reset_tokens():
            self.was_reset = True
            self.closed = self.closed or ("RESET", "reset", b"")

    def reset_tokens(self):
        return [token for _, token in self.cids.values()] + [self.server.get("reset_token")]

    def take_retry(self, data, at, source):
        pseudo = bytes([len(self.original)]) + self.original + data[:-16]
        if AESGCM(RETRY_KEY).encrypt(RETRY_NONCE, b"", pseudo) != data[-16:]:
            raise ValueError("the Retry's tag is wrong")
        if self.retried:
            return  # RFC 9000 17.2.5.2
        self.retried += 1
        self.token, self.retry_source = data[at:-16], source
        self.destination = source
        sent = self.spaces[INITIAL].sent
        self.spaces[INITIAL].sent = {}
        self.new_keys()
        for _, level, parts in sent.values():
            self.send_initial(*[part for part in parts if part.strip(b"\0")], room=1200)

    def take_frames(self, level, space, n, payload, first):
        if n in space.received:
            return
        space.received.add(n)
        for name, *values in frames(payload):
            self.heard.setdefault(name, []).append(values)
            space.due |= name not in ("PADDING", "ACK", "CLOSE", "APPLICATION_CLOSE")
            method = getattr(self, "on_" + name.lower(), None)
            if method:
                method(level, space, *values)

    # ---- frames of the server's

    def on_crypto(self, level, space, offset, data):
        space.crypto[offset] = max(space.crypto.get(offset, b""), data, key=len)
        while any(start <= space.crypto_read for start in space.crypto):
            start = min(space.crypto)
            piece = space.crypto.pop(start)[max(0, space.crypto_read - start) :]
            space.input += piece
            space.crypto_read += len(piece)
        while len(space.input) >= 4 and len(space.input) >= 4 + int.from_bytes(space.input[1:4], "big"):
            size = 4 + int.from_bytes(space.input[1:4], "big")
            one, space.input = space.input[:size], space.input[size:]
            reply = self.tls.take(one)
            self.install()
            if reply:
                self.established = True
                self.server = read_parameters(self.tls.extensions[0x39])
                self.limits.update({key: self.server.get(key, 0) for key in self.limits})
                self.finish(reply)

    def finish(self, finished):
        """A case may override this."""
        self.acknowledge()
        self.send(crypto(0, finished), level=HANDSHAKE)

    def install(self):
        for level, mine, theirs in self.tls.installed:
            if level == "early":
                self.early_keys = Keys(mine)
            else:
                self.spaces[level].tx, self.spaces[level].rx = Keys(mine), Keys(theirs)
        self.tls.installed.clear()

    def on_ack(self, level, space, ranges, counts):
        for first, last in ranges:
            for n in [n for n in space.sent if first <= n <= last]:
                space.sent.pop(n)
            space.acked.list = [list(one) for one in sorted(ranges)]

    def on_handshake_done(self, level, space):
        self.confirmed = True
        for level in (INITIAL, HANDSHAKE):
            self.spaces[level].sent.clear()

    def on_stream(self, level, space, id, offset, data, fin):
        one = self.streams.setdefault(id, Stream())
        before = one.read
        one.add(offset, data, fin)
        self.window_left -= one.read - before
        if self.credits and self.window_left < self.window // 2:
            self.window_left += self.window
            self.granted = getattr(self, "granted", self.window) + self.window
            self.send(max_data(self.granted))
        if self.credits and not one.ended and one.read > getattr(one, "limit", self.window) - self.window // 2:
            one.limit = getattr(one, "limit", self.window) + self.window
            self.send(max_stream_data(id, one.limit))

    def on_reset_stream(self, level, space, id, code, size):
        self.streams.setdefault(id, Stream()).reset = code

    def on_stop_sending(self, level, space, id, code):
        self.streams.setdefault(id, Stream()).stopped = code

    def on_max_data(self, level, space, n):
        self.limits["data"] = max(self.limits["data"], n)

    def on_max_stream_data(self, level, space, id, n):
        self.stream_limits[id] = max(self.stream_limits.get(id, 0), n)

    def on_max_streams(self, level, space, n):
        self.limits["streams"] = max(self.limits["streams"], n)

    def on_max_streams_uni(self, level, space, n):
        self.limits["streams_uni"] = max(self.limits["streams_uni"], n)

    def on_new_connection_id(self, level, space, sequence, retire, cid, token):
        self.cids[sequence] = (cid, token)

    def on_path_challenge(self, level, space, data):
        self.answered_path += 1
        self.send(path_response(data), padding(1150))

    def on_close(self, level, space, code, which, reason):
        name = f"TLS_{code - 0x100}" if 0x100 <= code < 0x200 else ERRORS[code] if code < len(ERRORS) else hex(code)
        self.closed = self.closed or (name, "quic", reason)

    def on_application_close(self, level, space, code, which, reason):
        self.closed = self.closed or (code, "application", reason)

    # ---- what is due

    def acknowledge(self):
        if not self.acks or self.closed:
            return
        for level in (INITIAL, HANDSHAKE, APP):
            space = self.spaces[level]
            if space.due and space.tx and space.received.list:
                space.due = False
                if level == INITIAL:
                    self.send_initial(space.received.frame())
                else:
                    self.send(space.received.frame(), level=level)

    def resend(self):
        if not self.resends or self.closed:
            return
        now = time.monotonic()
        for level in (INITIAL, HANDSHAKE, APP):
            space = self.spaces[level]
            for n in [n for n, (sent, _, _) in space.sent.items() if now - sent > RESENT]:
                _, level, parts = space.sent.pop(n)
                parts = [part for part in parts if part.strip(b"\0")]
                if level == EARLY and space.tx:
                    level = APP
                if level == INITIAL:
                    self.send_initial(*parts)
                else:
                    self.send(*parts, level=level)
