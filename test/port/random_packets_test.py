#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random frames of QUIC and HTTP/3 in correctly protected packets: whatever comes, the program survives, and serves the next client."""

import os
import random
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.dont_write_bytecode = True

from lib import host  # noqa: E402
from lib.program import PATH  # noqa: E402

try:
    from lib import h3, peer3, quic, tls13
except ModuleNotFoundError as missing:
    print(f"skipped: no module {missing.name} (Debian: python3-cryptography)")
    sys.exit(0)

SEED, CONNECTIONS = int(os.environ.get("SPARX_RANDOM_SEED", 1)), int(os.environ.get("SPARX_RANDOM_CONNECTIONS", 300))
PROGRAM = os.environ.get("SPARX_PORT") or PATH
HEAD = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "a.example")]
LARGEST = (1 << 62) - 1

dice = random.Random(SEED)


def number():
    return dice.choice([0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 16383, 1 << 14, 1 << 20, 1 << 30, LARGEST, dice.randrange(LARGEST)])


def octets(most=40):
    return dice.randbytes(dice.randrange(most))


def frames_of_http3():
    return b"".join(h3.frame(dice.choice([0, 1, 3, 4, 5, 7, 13, 0x21, h3.PRIORITY_UPDATE]), octets(60)) for _ in range(3))


FRAMES = [
    quic.ping,
    lambda: quic.padding(dice.randrange(300)),
    lambda: quic.reset_stream(number(), number(), number()),
    lambda: quic.stop_sending(number(), number()),
    lambda: quic.crypto(number(), octets()),
    lambda: quic.crypto(0, tls13.message(dice.randrange(256), octets())),
    lambda: quic.stream(number(), octets(), number(), dice.random() < 0.3),
    lambda: quic.stream(4 * dice.randrange(4), h3.headers(HEAD) + octets(), 0, dice.random() < 0.5),
    lambda: quic.stream(dice.choice([0, 4, 8]), frames_of_http3(), 0, dice.random() < 0.5),
    lambda: quic.stream(0, h3.headers(b"\0\0" + octets(120)), 0, True),
    lambda: quic.stream(dice.choice([2, 6, 10, 14]), dice.choice([b"\0", b"\1", b"\2", b"\3", b"\x21"]) + octets(200), 0, dice.random() < 0.1),
    lambda: quic.stream(6, b"\2" + h3.capacity(4096) + octets(100)),
    lambda: quic.max_data(number()),
    lambda: quic.max_stream_data(number(), number()),
    lambda: quic.max_streams(number(), dice.random() < 0.5),
    lambda: quic.stream_data_blocked(number(), number()),
    lambda: quic.new_connection_id(dice.choice([1, 2, 3, number()]), dice.choice([0, 0, 1, number()]), octets(22)),
    lambda: quic.retire_connection_id(number()),
    lambda: quic.path_challenge(dice.randbytes(8)),
    lambda: quic.path_response(dice.randbytes(8)),
    lambda: quic.ack([(0, dice.randrange(50))]),
    lambda: b"\x02" + octets(12),
    lambda: octets(30) or b"\x01",
]


def spoilt(hello):
    hello = bytearray(hello)
    for _ in range(dice.randrange(1, 6)):
        hello[dice.randrange(len(hello))] = dice.randrange(256)
    return bytes(hello)


def misbehave(client):
    client.resends = False
    if dice.random() < 0.15:
        client.hello = spoilt
    if dice.random() < 0.1:
        client.finish = lambda reply: client.send(quic.crypto(0, reply) + dice.choice(FRAMES)(), level=quic.HANDSHAKE)
    client.send_hello()
    for _ in range(40):
        client.step(0.005)
        if client.confirmed or client.closed:
            break
    for _ in range(dice.randrange(1, 8)):
        if client.closed or not client.spaces[quic.APP].tx:
            break
        client.send(*[dice.choice(FRAMES)() for _ in range(dice.randrange(1, 4))])
        if dice.random() < 0.1:
            client.rebind()
        if dice.random() < 0.1:
            client.update_keys()
        client.step(0.002)
    client.quiet(0.005)


def main():
    port = host.Port(PROGRAM, {}, 0)
    if "http/3" not in port.ready["features"]:
        print("skipped: the program was built without HTTP/3")
        return port.stop()
    port.stop()
    port = host.Port(PROGRAM, {"listeners": [peer3.listener()], "h3_own_resets": 1000000}, 64)
    for count in range(CONNECTIONS):
        client = peer3.H3(port)
        try:
            misbehave(client)
        except (ValueError, IndexError, KeyError, TypeError):
            pass  # the client itself cannot continue: it got nonsense in answer to nonsense
        client.close()
        while select.select([port.out], [], [], 0)[0]:
            port.pump()  # raises when the program has ended
    good = peer3.H3(port).open()
    good.ask(0, HEAD)
    good.expect_answer(0)
    good.leave()
    print(f"random packets, seed {SEED}: {CONNECTIONS} connections")
    return port.stop()


if __name__ == "__main__":
    sys.exit(main())
