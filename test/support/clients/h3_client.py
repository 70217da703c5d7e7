#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of HTTP/3 for the Elixir tests, which is test/lib's.

    h3_client.py PORT request METHOD PATH [NAME:VALUE...]      stdin is the body; prints status, fields, an empty line, and the body
    h3_client.py PORT upload PATH BYTES                        prints the SHA-256 of what was sent, and the body of the answer
    h3_client.py PORT trailers PATH                            prints the trailers of the answer
    h3_client.py PORT websocket PATH TEXT...                   prints the text of each answer
    h3_client.py PORT again PATH                               two connections, the second with the ticket of the first
    h3_client.py PORT migrate PATH                             an answer during which the client's port changes; prints its length
    h3_client.py PORT hold PATH                                asks, prints "asked", waits for a line on stdin, asks again; prints both answers
    h3_client.py PORT flood COUNT                              from as many addresses an Initial each, of which nothing more comes; prints the
                                                               bytes that were sent, and those that came
    h3_client.py PORT crowd CONNECTIONS REQUESTS LOSS          prints how many answers were whole; loses this share of all packets
"""

import hashlib
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True

from lib import quic, ws  # noqa: E402
from lib.h3 import data as data_frame  # noqa: E402
from lib.peer3 import H3  # noqa: E402


class Nobody:
    """In the place of a host that this process would play."""

    def __init__(self, port):
        self.address = ("127.0.0.1", port)
        self.out, self.in_ = os.pipe()
        self.exchanges = []

    def pump(self):
        pass


def head(method, path, extra=()):
    return [(":method", method), (":scheme", "https"), (":path", path), (":authority", "a.example"), *extra]


def whole(client, stream):
    client.until(lambda: client.ended(stream) or client.reset_code(stream), f"answer on {stream}", 60)
    client.expect(client.ended(stream), "a whole answer")
    return client.answers[stream]


def show(answer):
    print(answer.status)
    for name, value in answer.fields[1:]:
        print(f"{name}: {value}")
    print(flush=True)
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()


def request(client, method, path, *fields):
    body = sys.stdin.buffer.read()
    client.open().ask(0, head(method, path, [field.split(":", 1) for field in fields]), body or None)
    show(whole(client, 0))


def upload(client, path, size):
    body = random.Random(7).randbytes(int(size))
    client.open().ask(0, head("POST", path), body)
    print(hashlib.sha256(body).hexdigest())
    print(whole(client, 0).body.decode())


def trailers(client, path):
    client.open().ask(0, head("POST", path), b"body", trailers=[("x-sum", "1")])
    for name, value in whole(client, 0).trailers:
        print(f"{name}: {value}")


def websocket(client, path, *texts):
    """RFC 9220"""
    asked = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", path), (":authority", "a.example")]
    client.open((8, 1)).ask(0, asked + [("sec-websocket-version", "13")], end=False)
    client.until(lambda: client.answers.get(0) and client.answers[0].fields, "the answer")
    client.expect(client.answers[0].status == 200, "not 200")
    for text in texts:
        before = len(client.answers[0].body)
        client.send_stream(0, data_frame(ws.frame(1, text.encode())))
        expected = bytes([0x81, len(text.encode())]) + text.encode()
        client.until(lambda: len(client.answers[0].body) >= before + len(expected), "the echo")
        client.expect(client.answers[0].body[before:] == expected, "another frame")
        print(text)
    client.send_stream(0, data_frame(ws.close(1000)))
    client.until(lambda: client.answers[0].body.endswith(b"\x88\x02\x03\xe8"), "the close")
    client.send_stream(0, b"", True)


def again(client, path):
    client.open().ask(0, head("GET", path))
    first = whole(client, 0)
    client.until(lambda: client.tls.tickets, "a ticket")
    second = H3(client.port, ticket=client.tls.tickets[0]).open()
    second.ask(0, head("GET", path))
    print(first.body.decode(), whole(second, 0).body.decode(), second.tls.resumed)
    second.leave()


def migrate(client, path):
    client.open().ask(0, head("GET", path))
    client.until(lambda: client.answers.get(0) and len(client.answers[0].body) > 100_000, "100,000 bytes")
    client.rebind()
    client.send(quic.ping())
    print(len(whole(client, 0).body), client.answered_path > 0)


def hold(client, path):
    client.open().ask(0, head("GET", path))
    print(whole(client, 0).body.decode(), flush=True)
    sys.stdin.readline()
    client.until(lambda: not client.spaces[quic.APP].sent or client.closed, "quiet")
    client.ask(4, head("GET", path))
    client.until(lambda: client.ended(4) or client.closed, "an answer, or an end", 20)
    print("reset" if client.was_reset else client.answers[4].body.decode() if client.ended(4) else client.seen(), flush=True)


def lossy(client, share, dice):
    transmit, take = client.transmit, client.take_datagram
    client.transmit = lambda octets: transmit(octets) if dice.random() >= share else None
    client.take_datagram = lambda octets: take(octets) if dice.random() >= share else None
    return client


def flood(client, count):
    sent = came = 0
    for n in range(int(count)):
        one = H3(client.port, source=f"127.{1 + n // 60000}.{n // 240 % 250}.{1 + n % 240}")
        one.resends = one.acks = False
        one.take_retry = lambda *_: None
        one.finish = lambda _: None
        one.send_hello()
        one.quiet(0.001)
        sent, came = sent + one.octets_out, came + one.octets_in
        one.close()
    print(sent, came, flush=True)


def crowd(client, connections, requests, loss):
    """Each of them has asked for as much as it may before any is answered."""
    connections, requests, dice, good = int(connections), int(requests), random.Random(1), 0
    expected = [bytes([65 + i % 26]) * (i * 37 % 3000) for i in range(requests)]
    for begin in range(0, connections, 20):
        some = [lossy(H3(client.port), float(loss), dice) for _ in range(min(20, connections - begin))]
        for one in some:
            one.open()
        for i in range(requests):
            for one in some:
                one.until(lambda: one.limits["streams"] > i, "room for a stream", 30)
                one.ask(4 * i, head("POST", "/echo"), expected[i])
        for one in some:
            for i in range(requests):
                one.until(lambda: one.ended(4 * i) or one.reset_code(4 * i) or one.closed, f"answer on {4 * i}", 60)
                good += one.ended(4 * i) and one.answers[4 * i].body == expected[i]
            one.leave()
    print(good)


def main():
    port, what, *arguments = sys.argv[1:]
    client = H3(Nobody(int(port)))
    globals()[what](client, *arguments)
    client.leave()


if __name__ == "__main__":
    main()
