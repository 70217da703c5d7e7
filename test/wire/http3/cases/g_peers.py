# SPDX-License-Identifier: Apache-2.0
"""Limits by peer (PROTOCOL.md 3.10): exceeding them costs the stream, or the connection, and affects nobody else."""

import time
from contextlib import contextmanager

from lib import quic
from lib.peer3 import H3
from wire.http3.case import case, get, request, script

OTHER = "127.0.0.2"
TEXT = b"429 Too Many Requests\n"
RATE = 80_000  # bytes a second
AHEAD = 2 * RATE // 8  # what a peer may have besides: an eighth of a second, and what is granted at once
LARGE = b"x" * 40_000


@contextmanager
def another(t, **how):
    """One more client, from the same address unless `source` differs."""
    client = H3(t.port, **how)
    try:
        yield client
    finally:
        client.leave()


def expect_429(t, stream, policy, service, body=TEXT):
    answer = t.expect_answer(stream, 429, body=body)
    t.expect(answer.get("ratelimit-policy") == policy, f"policy {answer.get('ratelimit-policy')}")
    t.expect(answer.get("content-type") == "text/plain", "no content-type")
    limit, after = answer.get("ratelimit"), answer.get("retry-after")
    t.expect(limit == service(after), f"ratelimit {limit}, retry-after {after}")
    return int(after)


def expect_shaped(t, began, size):
    """It took at least as long as the rate demands."""
    took = time.monotonic() - began
    t.expect(took >= (size - AHEAD) / RATE, f"{size} bytes in {took} s")


@case(limit_requests=2, limit_window=3_600_000)
def peer_requests(t):
    """Each stream beyond the rate gets 429; the connection stays, and another address has its own rate"""
    policy, service = '"requests";q=2;w=3600', lambda after: f'"requests";r=0;t={after}'
    t.open()
    for stream in (0, 4):
        t.ask(stream, get())
        t.expect_answer(stream)
    t.ask(8, get())
    t.expect(1_700 <= expect_429(t, 8, policy, service) <= 1_800, "another time than that of one request")
    t.ask(12, request("HEAD"))
    expect_429(t, 12, policy, service, body=b"")
    t.ask(16, request("POST"), b"nobody reads this")
    expect_429(t, 16, policy, service)
    t.expect_alive()
    with another(t) as same, another(t, source=OTHER) as other:
        same.open().ask(0, get())
        expect_429(same, 0, policy, service)
        other.open().ask(0, get())
        other.expect_answer(0)
    t.expect(len(t.port.exchanges) == 3, f"{len(t.port.exchanges)} requests at the host")
    t.expect(t.port.ask_figures()["over_requests"] == 4, "not counted")


@case(*[script("wait go", "echo")] * 2, limit_concurrent=2, retry_after=3)
def peer_concurrent(t):
    policy, service = '"concurrent";q=2;qu="concurrent-requests"', lambda after: '"concurrent";r=0'
    t.open()
    for stream in (0, 4):
        t.ask(stream, get())
    t.wait_request(2)
    t.ask(8, get())
    t.expect(expect_429(t, 8, policy, service) == 3, "not the option retry_after")
    with another(t, source=OTHER) as other:
        other.open().ask(0, get())
        other.expect_answer(0)
    t.port.go()
    for stream in (0, 4):
        t.expect_answer(stream)
    t.port.figures_until(lambda figures: figures["streams"] == 0)
    t.ask(12, get())
    t.expect_answer(12)


@case(script("wait gone"), limit_concurrent=1)
def peer_concurrent_reset(t):
    """A request that is reset counts until the host releases it (CVE-2023-44487)"""
    t.open().ask(0, get())
    exchange = t.wait_request()
    t.send(quic.stop_sending(0, 0x10C))
    t.until(lambda: exchange.gone, "GONE")
    t.ask(4, get())
    t.expect_answer(4, 429)
    t.port.send([17, exchange.stream])
    t.port.settle()
    t.ask(8, get())
    t.expect_answer(8)


@case(script(("respond 200", (), LARGE)), script("respond 204"), limit_body_out=RATE)
def peer_body_out(t):
    """The body arrives completely, no faster than that; heads are free, and other streams continue"""
    began = time.monotonic()
    t.open().ask(0, get())
    t.until(lambda: t.answer_on(0).body, "the first bytes")
    t.ask(4, get())
    t.expect_answer(4, 204)
    if t.ended(0):
        expect_shaped(t, began, len(LARGE))
    t.expect_answer(0, body=LARGE)
    expect_shaped(t, began, len(LARGE))
    t.expect(t.port.ask_figures()["shaped"] > 0, "not counted")


@case(*[script(("respond 200", (), LARGE))] * 2, limit_body_out=RATE, limit_exempt=["127.0.0.3"])
def peer_body_out_shared(t):
    """Two streams of a peer share its rate; an exempt peer has none"""
    began = time.monotonic()
    t.open()
    for stream in (0, 4):
        t.ask(stream, get())
    for stream in (0, 4):
        t.expect_answer(stream, body=LARGE)
    expect_shaped(t, began, 2 * len(LARGE))
    shaped = t.port.ask_figures()["shaped"]
    t.port.scripts.append(script(("respond 200", (), LARGE)))
    with another(t, source="127.0.0.3") as exempt:
        exempt.open().ask(0, get())
        exempt.expect_answer(0, body=LARGE)
    t.expect(t.port.ask_figures()["shaped"] == shaped, "one that is exempt waited")


@case(script(("respond 200", (), LARGE)), limit_body_out=RATE)
def peer_body_out_cut(t):
    """A client that cancels its request returns its allowance"""
    t.open().ask(0, get())
    t.until(lambda: t.answer_on(0).body, "the first bytes")
    t.send(quic.stop_sending(0, 0x10C))
    t.expect_reset(0, "REQUEST_CANCELLED")
    t.expect_served(4)


@case(script("read", "wait end", "respond 200"), limit_body_in=RATE)
def peer_body_in(t):
    began = time.monotonic()
    t.open().ask(0, request("POST"), LARGE)
    t.expect_answer(0)
    expect_shaped(t, began, len(LARGE))
    t.expect(t.port.exchanges[0].body == LARGE, "another body")


def expect_refused(t, **how):
    with another(t, **how) as beyond:
        beyond.send_hello()
        beyond.expect_quic_close("CONNECTION_REFUSED")
        t.expect(beyond.retried == 1, "it did not have to prove its address")


def expect_welcome(t, **how):
    with another(t, **how) as other:
        other.open()
        other.expect_served(0)


@case(limit_connections=1)
def peer_connections(t):
    """One beyond that is closed before its handshake; open connections continue"""
    t.open()
    expect_refused(t)
    expect_welcome(t, source=OTHER)
    t.expect_served(0)
    t.leave()
    t.port.figures_until(lambda figures: figures["connections"] == 0)
    expect_welcome(t)
    t.expect(t.port.ask_figures()["over_connections"] == 1, "not counted")


@case(limit_connection_rate=1, limit_connection_burst=2)
def peer_connection_rate(t):
    t.open()
    expect_welcome(t)
    while not t.port.ask_figures()["over_connection_rate"]:
        with another(t) as one:
            one.send_hello()
            one.until(lambda: one.confirmed or one.closed, "an answer to its ClientHello")
            refused = one.closing()
    t.expect(refused and refused[0] == "CONNECTION_REFUSED", f"closed with {refused}")
    expect_welcome(t, source=OTHER)
    t.expect_served(0)


@case(limit_connection_rate=1, limit_connection_burst=1)
def peer_connection_rate_spoofed(t):
    """An unproven address costs its owner nothing: the answer to its first packets is Retry"""
    for _ in range(5):
        with another(t) as one:
            one.send_hello()
            one.sock.close()
    t.open()
    t.expect_served(0)
    t.expect(t.port.ask_figures()["over_connection_rate"] == 0, "somebody was refused")


@case(script(("respond 200", (), b"x" * 60_000)), max_unsent=50_000, queue_timeout=60_000)
def unsent_and_unacked(t):
    """No request begins while this many bytes of responses wait, or are sent but not acknowledged (max_unsent)"""
    t.open()
    t.acks = False
    t.ask(0, get())
    t.until(lambda: len(t.answer_on(0).body) >= 10_000, "what the server sends without an acknowledgement")
    t.ask(4, get())
    t.until(lambda: t.port.ask_figures()["held_back"] == 1, "a request that waits")
    t.expect(t.port.figures["body_queued"] < 50_000, "what is unacknowledged did not matter")
    t.acks = True
    t.expect_answer(0)
    t.expect_answer(4)
