# SPDX-License-Identifier: Apache-2.0
"""The client's half of a TLS 1.3 handshake over QUIC (RFC 8446, RFC 9001): X25519, AES-128-GCM, with any certificate."""

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, ENCRYPTED_EXTENSIONS, CERTIFICATE, CERTIFICATE_REQUEST, CERTIFICATE_VERIFY = 1, 2, 4, 8, 11, 13, 15
FINISHED, KEY_UPDATE = 20, 24
EMPTY = hashlib.sha256().digest()


def extract(salt, secret):
    return hmac.new(salt, secret, hashlib.sha256).digest()


def expand(secret, label, context=b"", length=32):
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + bytes([len(context)]) + context
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.new(secret, block + info + bytes([count]), hashlib.sha256).digest()
        out, count = out + block, count + 1
    return out[:length]


def message(kind, body):
    return bytes([kind]) + struct.pack(">I", len(body))[1:] + body


def vector(size, body):
    return len(body).to_bytes(size, "big") + body


def extension(kind, body):
    return struct.pack(">H", kind) + vector(2, body)


def extensions(block):
    found, at = {}, 0
    while at < len(block):
        kind, size = struct.unpack_from(">HH", block, at)
        found[kind] = block[at + 4 : at + 4 + size]
        at += 4 + size
    return found


class Ticket:
    def __init__(self, identity, secret, age_add):
        self.identity, self.secret, self.age_add = identity, secret, age_add


class Tls:
    """Feed it messages with take(); `installed` gets (level, client's secret, server's secret) when they are known."""

    def __init__(self, name, alpn, parameters, ticket=None, early=False, ciphers=(0x1301,)):
        self.name, self.alpn, self.parameters, self.ticket, self.early, self.ciphers = name, alpn, parameters, ticket, early, ciphers
        self.private = X25519PrivateKey.generate()
        self.transcript = b""
        self.extensions, self.tickets, self.certificates = {}, [], []
        self.installed = []
        self.finished = self.resumed = False
        self.shows = None  # a function of this client that gives messages (Certificate, CertificateVerify) to be sent before its Finished

    def hash(self):
        return hashlib.sha256(self.transcript).digest()

    def hello(self):
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        parts = [
            extension(0x2B, vector(1, b"\x03\x04")),
            extension(0x0A, vector(2, b"\x00\x1d")),
            extension(0x0D, vector(2, b"\x04\x03\x08\x04\x08\x05\x08\x06\x04\x01\x08\x07")),
            extension(0x33, vector(2, b"\x00\x1d" + vector(2, public))),
            extension(0x2D, vector(1, b"\x01")),
        ]
        if self.name:
            parts.append(extension(0, vector(2, b"\0" + vector(2, self.name.encode()))))
        if self.alpn is not None:
            parts.append(extension(0x10, vector(2, b"".join(vector(1, one) for one in self.alpn))))
        if self.parameters is not None:
            parts.append(extension(0x39, self.parameters))
        if self.early:
            parts.append(extension(0x2A, b""))
        early = extract(bytes(32), self.ticket.secret if self.ticket else bytes(32))
        self.early_secret = early
        binders = b""
        if self.ticket:
            parts.append(
                struct.pack(">HH", 0x29, 2 + 2 + len(self.ticket.identity) + 4 + 2 + 33)
                + vector(2, vector(2, self.ticket.identity) + struct.pack(">I", (1000 + self.ticket.age_add) & 0xFFFFFFFF))
            )
            binders = bytes(2 + 33)
        suites = b"".join(struct.pack(">H", one) for one in self.ciphers)
        block = b"".join(parts)
        block = struct.pack(">H", len(block) + len(binders)) + block
        body = b"\x03\x03" + os.urandom(32) + b"\0" + vector(2, suites) + b"\x01\x00" + block
        whole = bytes([CLIENT_HELLO]) + struct.pack(">I", len(body) + len(binders))[1:] + body
        if self.ticket:
            key = expand(expand(early, b"res binder", EMPTY), b"finished")
            binder = hmac.new(key, hashlib.sha256(whole).digest(), hashlib.sha256).digest()
            whole += vector(2, vector(1, binder))
        self.transcript = whole
        if self.early:
            self.installed.append(("early", expand(early, b"c e traffic", self.hash()), None))
        return whole

    def take(self, whole):
        """Handles a message of the server; returns the bytes to send with the handshake keys."""
        kind, body = whole[0], whole[4:]
        if kind == SERVER_HELLO:
            self.transcript += whole
            self.server_hello(body)
        elif kind == ENCRYPTED_EXTENSIONS:
            self.transcript += whole
            self.extensions = extensions(body[2:])
        elif kind == CERTIFICATE:
            self.transcript += whole
            self.certificates.append(body)
        elif kind == FINISHED:
            return self.server_finished(whole, body)
        elif kind == NEW_SESSION_TICKET:
            self.new_ticket(body)
        else:
            self.transcript += whole
        return b""

    def server_hello(self, body):
        at = 34
        at += 1 + body[at]
        at += 3
        found = extensions(body[at + 2 :])
        self.resumed = 0x29 in found
        if self.ticket and not self.resumed:
            self.early_secret = extract(bytes(32), bytes(32))
        share = found[0x33]
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(share[4:]))
        handshake = extract(expand(self.early_secret, b"derived", EMPTY), shared)
        self.client, self.server = expand(handshake, b"c hs traffic", self.hash()), expand(handshake, b"s hs traffic", self.hash())
        self.master = extract(expand(handshake, b"derived", EMPTY), bytes(32))
        self.installed.append(("handshake", self.client, self.server))

    def server_finished(self, whole, body):
        expected = hmac.new(expand(self.server, b"finished"), self.hash(), hashlib.sha256).digest()
        if body != expected:
            raise ValueError("the server's Finished is wrong")
        self.transcript += whole
        digest = self.hash()
        self.installed.append(("app", expand(self.master, b"c ap traffic", digest), expand(self.master, b"s ap traffic", digest)))
        shown = self.shows(self) if self.shows else b""
        self.transcript += shown
        mine = message(FINISHED, hmac.new(expand(self.client, b"finished"), self.hash(), hashlib.sha256).digest())
        self.transcript += mine
        self.resumption = expand(self.master, b"res master", self.hash())
        self.finished = True
        return shown + mine

    def new_ticket(self, body):
        age_add = struct.unpack_from(">I", body, 4)[0]
        nonce = body[9 : 9 + body[8]]
        at = 9 + body[8]
        size = struct.unpack_from(">H", body, at)[0]
        self.tickets.append(Ticket(body[at + 2 : at + 2 + size], expand(self.resumption, b"resumption", nonce), age_add))
