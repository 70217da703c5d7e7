# SPDX-License-Identifier: Apache-2.0
"""Attacks on TLS: handshakes, and records without effect."""

import itertools
from pathlib import Path

from crowd import CLOSE, RESET, attack, jitter
from lib import tls

FILES = Path(__file__).resolve().parents[2] / "fixtures" / "tls"
LISTENER = {"scheme": ":https", "certfile": f'"{FILES}/a-ec.crt"', "keyfile": f'"{FILES}/a-ec.key"'}
# A newcomer must send its ClientHello before all of these connections are replaced.
FULL = {"clients": 320, "max_connections": 600, "max_handshakes": 300}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def secure(name, answer, ends="", limit="", **more):
    if not tls.AVAILABLE:
        return lambda script: script
    return attack("tls", name, answer, ends, limit, **{**LISTENER, **more})


def hello(**more):
    """Always the same bytes, so that they cost the attacker nothing."""
    client = tls.Client(**more)
    return client.record(tls.HANDSHAKE, client.hello())


HELLO, HELLO_12, FALSE_TICKET = hello(), hello(version=12), hello(psk=(bytes(300), bytes(32), bytes(4)))


def stay(first):
    yield first
    while True:
        yield 60.0


def shaken(client, version=13):
    """The steps of a handshake; `client.tls` is the TLS client that made it."""
    client.tls = tls.Client(version=version)
    yield client.tls.record(tls.HANDSHAKE, client.tls.hello())
    while not client.tls.flight_is_whole:
        taken, client.received = client.received, b""
        client.tls.feed(taken)
        if not client.tls.flight_is_whole:
            yield 0.002
    yield client.tls.finish()


def flood(client, records, version=13):
    """After the handshake, sends the result of records(client.tls) again and again."""
    yield from shaken(client, version)
    while True:
        yield b"".join(records(client.tls))


# ---- slow clients


@secure("connections that say nothing", "closed", "closed reset", ":handshake_timeout", clients=200, handshake_timeout=400)
def nothing(_):
    return stay(b"")


@secure("half a ClientHello", "closed", "closed reset", ":handshake_timeout", clients=200, handshake_timeout=400)
def half_hello(_):
    return stay(HELLO[: len(HELLO) // 2])


@secure("a ClientHello by the byte", "closed", "closed reset", ":handshake_timeout", clients=100, handshake_timeout=400)
def slow_hello(_):
    for i in range(len(HELLO)):
        yield jitter(0.05)
        yield HELLO[i : i + 1]


@secure("a ClientHello that is answered, and then silence", "closed", "closed reset", ":handshake_timeout", clients=200, handshake_timeout=400)
def half_open(_):
    return stay(HELLO)


@secure("more half handshakes than there may be", "closed, oldest first", "closed reset", ":max_handshakes", **FULL)
def crowd_half_open(_):
    return stay(HELLO)


@secure("more connections that say nothing than there may be", "closed, oldest first", "closed reset", ":max_handshakes", **FULL)
def crowd_silent(_):
    return stay(b"")


@secure("a ClientHello of 16 KiB that never ends", "closed", "closed reset", ":handshake_timeout", clients=100, handshake_timeout=400)
def large_hello(_):
    return stay(tls.record(tls.HANDSHAKE, b"\1\0\x3f\xff\3\3" + bytes(15000)))


# ---- too many handshakes


@secure("handshakes, given up when they are answered", "answered, at most 64 per turn", "", clients=32, loud=True)
def handshakes(client):
    yield HELLO
    while not client.received:
        yield 0.001
    yield RESET


@secure("handshakes that nobody waits for", "answered, at most 64 per turn", "", clients=32, loud=True)
def handshakes_and_gone(_):
    yield HELLO
    yield CLOSE


@secure("handshakes of TLS 1.2, given up when they are answered", "answered, at most 64 per turn", "", clients=32, loud=True)
def handshakes_12(client):
    yield HELLO_12
    while not client.received:
        yield 0.001
    yield RESET


@secure("handshakes whose Finished is wrong", "alert", "closed reset decrypt_error", clients=16, loud=True)
def wrong_ends(client):
    yield HELLO
    yield tls.record(tls.CCS, b"\1") + tls.record(tls.DATA, bytes(53))
    while True:
        yield 60.0


@secure("invented tickets", "a full handshake", "", clients=32, loud=True)
def false_tickets(client):
    yield FALSE_TICKET
    while not client.received:
        yield 0.001
    yield RESET


@secure("bytes that are not a ClientHello", "alert", "unexpected_message", clients=16, loud=True)
def no_hello(_):
    yield bytes(16384)
    while True:
        yield 60.0


@secure("empty handshake messages", "alert", "closed reset", clients=16, loud=True)
def empty_messages(client):
    return flood(client, lambda it: (it.seal(tls.HANDSHAKE, b"") for _ in range(100)))


@secure("a message that announces 16 MiB", "alert", "closed reset", clients=16, loud=True)
def endless_message(client):
    first = itertools.chain([b"\x18\xff\xff\xff"], itertools.repeat(b""))
    return flood(client, lambda it: [it.seal(tls.HANDSHAKE, next(first) + bytes(16000))])


@secure("renegotiation", "alert", "closed reset", clients=16, loud=True)
def renegotiation(client):
    return flood(client, lambda it: [it.seal(tls.HANDSHAKE, tls.Client(version=12).hello())], 12)


@secure("ClientHello after the handshake", "alert", "closed reset", clients=16, loud=True)
def hello_again(client):
    return flood(client, lambda it: [it.seal(tls.HANDSHAKE, tls.Client().hello())])


@secure("KeyUpdate", "alert", "closed reset", clients=16, loud=True)
def key_updates(client):
    return flood(client, lambda it: (it.key_update(True) for _ in range(50)))


@secure("KeyUpdate, slowly, whose answers are not read", "served", "", clients=32, reads=True)
def slow_key_updates(client):
    yield from shaken(client)
    while True:
        yield client.tls.key_update(True) + client.tls.seal(tls.DATA, GET)
        yield jitter(0.5)


# ---- records with little data


@secure("the beginning of a record", "closed", "closed reset", ":first_byte_timeout", clients=200, first_byte_timeout=400)
def half_record(client):
    yield from shaken(client)
    yield client.tls.seal(tls.DATA, bytes(16384))[:8000]
    while True:
        yield 60.0


@secure("a record by the byte", "closed", "closed reset", ":first_byte_timeout", clients=100, first_byte_timeout=1500)
def slow_record(client):
    yield from shaken(client)
    record = client.tls.seal(tls.DATA, bytes(16384))
    for i in range(len(record)):
        yield jitter(0.01)
        yield record[i : i + 1]


@secure("records of one byte", "served", "", clients=8, loud=True)
def tiny_records(client):
    return flood(client, lambda it: (it.seal(tls.DATA, GET[i : i + 1]) for i in range(len(GET))))


@secure("records without data", "alert", "closed reset", clients=16, loud=True)
def empty_records(client):
    return flood(client, lambda it: (it.seal(tls.DATA, b"") for _ in range(100)))


@secure("records that are all padding", "alert", "closed reset", clients=16, loud=True)
def padding(client):
    return flood(client, lambda it: (it.seal(tls.DATA, b"", pad=16000) for _ in range(10)))


@secure("a byte in a record of padding", "served", "", clients=8, loud=True)
def padded_bytes(client):
    return flood(client, lambda it: (it.seal(tls.DATA, GET[i : i + 1], pad=8000) for i in range(len(GET))))


@secure("warnings", "alert", "closed reset", clients=16, loud=True)
def warnings(client):
    return flood(client, lambda it: (it.seal(tls.ALERT, b"\1\x5a") for _ in range(100)), 12)


@secure("records that were changed", "alert", "closed reset", clients=16, loud=True)
def changed(client):
    return flood(client, lambda it: [tls.record(tls.DATA, bytes(1000))])


# ---- answers that are not read


@secure("answers that are not read", "cut", "reset", ":write_timeout, :window", clients=64, reads=False, small=True, write_timeout=400)
def not_reading(client):
    client.reads = True
    yield from shaken(client)
    client.reads = False
    yield client.tls.seal(tls.DATA, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    while True:
        yield 60.0
