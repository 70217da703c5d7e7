# SPDX-License-Identifier: Apache-2.0
"""Clients beyond their limits: one address, with a probe from another, and one machine with many names."""

import random
import struct

from crowd import attack
from h1 import GET
from h2 import OPEN, request
from lib.h2 import encode, headers, ping

GREEDY = "127.0.0.2"
ROOT = encode(request("/"))
REFUSED = b"429 Too Many Requests"
PONG = b"\0\0\x08\x06\1\0\0\0\0"


def count(client):
    """Records the refusals that were received."""
    client.noted["429"] += client.received.count(REFUSED)
    client.received = b""


def limit(name, answer, ends, limits, kind="h1", **more):
    return attack(kind, name, answer, ends, limits, source=GREEDY, **more)


@limit("requests at many times the rate", "429, and the connection stays", "429", ":limit_requests", clients=20, limit_requests=50, loud=True)
def too_often(client):
    while True:
        yield GET * 16
        count(client)


@limit("streams at many times the rate", "429 on each, and the connection stays", "429", ":limit_requests", kind="h2", clients=4, limit_requests=50, loud=True)
def too_often_h2(client):
    yield OPEN
    for stream in range(1, 1 << 30, 2):
        yield headers(stream, ROOT, end=True)
        if stream % 64 == 1:
            yield ping()
            while PONG not in client.received:  # a slow server would have more streams in progress than it allows
                yield 0.002
        count(client)
        yield 0.001


@limit("requests that stay in progress", "429", "429", ":limit_concurrent", clients=60, limit_concurrent=10)
def too_many(client):
    yield b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"
    while True:
        yield 0.05
        count(client)


@limit("more connections than one may have", "reset", "reset closed", ":limit_connections", clients=60, limit_connections=10)
def too_many_connections(_):
    yield GET
    while True:
        yield 60.0


@limit("connections at many times the rate", "reset", "reset closed", ":limit_connection_rate", clients=60, limit_connection_rate=20, loud=True)
def too_many_new(client):
    yield GET
    while True:
        yield 60.0


def proxied(address):
    """A PROXY header of version 2 for an IPv4 client."""
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + struct.pack(">IIHH", address, 0x0A000001, 4711, 80)


@attack(
    "h1",
    "one machine with as many names as it likes",
    "served, within the memory of :limit_peers",
    "",
    ":limit_peers",
    clients=50,
    loud=True,
    limit_requests=1,
    limit_window=60000,
    limit_peers=1000,
    limit_exempt='["127.0.0.1"]',
    proxy_protocol=":optional",
    trusted_proxies='["127.0.0.0/8"]',
)
def many_names(_):
    yield proxied(random.getrandbits(32)) + GET
    yield 0.02


@attack(
    "h1",
    "PROXY headers by the byte",
    "closed",
    "reset closed",
    ":header_timeout",
    clients=100,
    header_timeout=400,
    proxy_protocol=":optional",
    trusted_proxies='["127.0.0.0/8"]',
)
def slow_headers(_):
    for octet in proxied(1):
        yield 0.05
        yield bytes([octet])


@attack(
    "h1",
    "malformed PROXY headers",
    "reset",
    "reset closed",
    ":max_proxy_header",
    clients=100,
    loud=True,
    proxy_protocol=":optional",
    trusted_proxies='["127.0.0.0/8"]',
)
def no_headers(_):
    yield b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(3000)
    while True:
        yield 60.0
