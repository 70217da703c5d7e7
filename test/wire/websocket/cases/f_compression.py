# SPDX-License-Identifier: Apache-2.0
"""permessage-deflate (RFC 7692)."""

import json
import zlib

from lib import ws as wire
from wire.websocket.case import CASES, case
from lib.ws import BINARY, CONTINUATION, PING, PONG, TEXT, frame, fragments

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
SIZES = (0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
JSON = json.dumps([{"id": i, "name": f"name {i * 7919 % 1000}", "tags": ["a", "b", str(i * i)]} for i in range(4000)]).encode()
NOISE = b"".join((i * i * 2654435761 % (1 << 32)).to_bytes(4, "big") for i in range(40000))


def parameters(fields):
    parts = [part.strip() for part in fields.get("sec-websocket-extensions", "").split(";")]
    return parts[0], dict((part.split("=") + [""])[:2] for part in parts[1:])


def client(t):
    """Compressed as the answer says."""
    name, agreed = parameters(t.fields)
    t.expect(name == "permessage-deflate", f"not agreed: {name}")
    return wire.Deflate(
        int(agreed.get("client_max_window_bits", 15)),
        int(agreed.get("server_max_window_bits", 15)),
        "client_no_context_takeover" not in agreed,
        "server_no_context_takeover" not in agreed,
    )


def exchange(t, z, opcode, data, pieces=1):
    packed = z.pack(data)
    size = max(1, -(-len(packed) // pieces))
    t.send(fragments(opcode, *wire.cut(packed, size), rsv=4))
    got, answer, rsv = t.message()
    t.expect((got, rsv) == (opcode, 4), f"opcode {got}, reserved bits {rsv}")
    t.expect(z.unpack(answer) == data, f"another message of {len(data)}")


TAKEOVER = {"server_no_context_takeover": False, "client_no_context_takeover": False}
WAYS = {
    "default": {},
    "takeover": TAKEOVER,
    "server_takeover": {"server_no_context_takeover": False},
    "client_takeover": {"client_no_context_takeover": False},
    "bits_15": {**TAKEOVER, "server_max_window_bits": 15, "client_max_window_bits": 15, "mem_level": 8},
    "bits_9": {**TAKEOVER, "server_max_window_bits": 9, "client_max_window_bits": 9, "level": 1, "mem_level": 1},
}


def sizes(source, opcode):
    def run(t):
        z = client(t.open(OFFER + "; client_max_window_bits"))
        for size in SIZES:
            exchange(t, z, opcode, source[:size])
        t.closes()

    return run


def pieces(source):
    def run(t):
        z = client(t.open(OFFER + "; client_max_window_bits"))
        for count in (2, 3, 10, 100):
            exchange(t, z, BINARY, source[:50000], count)
        t.closes()

    return run


def bytewise(t):
    z = client(t.open(OFFER))
    packed = z.pack(JSON[:300])
    t.send_cut(frame(TEXT, packed, rsv=4))
    t.expect(z.unpack(t.message()[1]) == JSON[:300], "another message")
    t.closes()


for way, compress in WAYS.items():
    options = {"max_message": 1 << 20, "compress": compress}
    case(f"deflate_{way}_json", **options)(sizes(JSON, TEXT))
    case(f"deflate_{way}_noise", **options)(sizes(NOISE, BINARY))
    case(f"deflate_{way}_fragments", **options)(pieces(JSON))
    case(f"deflate_{way}_bytewise", **options)(bytewise)


def many(t):
    z = client(t.open(OFFER + "; client_max_window_bits"))
    for i in range(200):
        exchange(t, z, TEXT, JSON[i * 100 : i * 100 + 300])
    t.closes()


case("deflate_many_alike", compress={})(many)
case("deflate_many_alike_takeover", compress=TAKEOVER)(many)


# ---- negotiation

def agreed(offer, wanted, **compress):
    def run(t):
        t.open("Sec-WebSocket-Extensions: " + offer)
        t.expect(t.fields.get("sec-websocket-extensions") == wanted, f"{t.fields.get('sec-websocket-extensions')}")
        if wanted:
            exchange(t, client(t), TEXT, b"agreed " * 10)
        t.closes()

    return case(compress=compress)(run)


BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
AGREED = {
    "plain": ("permessage-deflate", BOTH + "; server_max_window_bits=12", {}),
    "client_bits": ("permessage-deflate; client_max_window_bits", BOTH + "; server_max_window_bits=12; client_max_window_bits=12", {}),
    "client_bits_less": (
        "permessage-deflate; client_max_window_bits=10",
        BOTH + "; server_max_window_bits=12; client_max_window_bits=10",
        {},
    ),
    "server_bits_less": ("permessage-deflate; server_max_window_bits=9", BOTH + "; server_max_window_bits=9", {}),
    "server_bits_more": ("permessage-deflate; server_max_window_bits=15", BOTH + "; server_max_window_bits=12", {}),
    "quoted": ('permessage-deflate; server_max_window_bits="10"', BOTH + "; server_max_window_bits=10", {}),
    "upper_case": ("Permessage-Deflate; SERVER_NO_CONTEXT_TAKEOVER", BOTH + "; server_max_window_bits=12", {}),
    "takeover": ("permessage-deflate", "permessage-deflate", {**TAKEOVER, "server_max_window_bits": 15}),
    "takeover_not_for_the_server": (
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover",
        {**TAKEOVER, "server_max_window_bits": 15},
    ),
    "takeover_not_for_the_client": (
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        {**TAKEOVER, "server_max_window_bits": 15},
    ),
    "second_offer": (
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
        BOTH + "; server_max_window_bits=12",
        {},
    ),
    "behind_another_extension": ("x-other; a=1, permessage-deflate", BOTH + "; server_max_window_bits=12", {}),
    "unknown_parameter": ("permessage-deflate; more", None, {}),
    "bits_too_many": ("permessage-deflate; server_max_window_bits=16", None, {}),
    "bits_too_few": ("permessage-deflate; server_max_window_bits=7", None, {}),
    "bits_with_a_zero": ("permessage-deflate; server_max_window_bits=09", None, {}),
    "bits_without_a_value": ("permessage-deflate; server_max_window_bits", None, {}),
    "takeover_with_a_value": ("permessage-deflate; server_no_context_takeover=1", None, {}),
    "twice_the_same": ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None, {}),
    "another_extension": ("permessage-bzip2", None, {}),
    "empty": ("", None, {}),
}
for name, (offer, wanted, compress) in AGREED.items():
    agreed(offer, wanted, **compress)
    CASES[-1].name = f"deflate_agrees_{name}"


@case()
def deflate_is_off_unless_asked(t):
    t.open(OFFER)
    t.expect("sec-websocket-extensions" not in t.fields, "an extension")
    t.send(frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4))
    t.fails_with(1002)


@case(compress={})
def deflate_not_every_message(t):
    """the client may send a message uncompressed (RFC 7692 section 6)"""
    z = client(t.open(OFFER))
    t.send(frame(TEXT, "plain"))
    t.expect(z.unpack(t.message()[1]) == b"plain", "another message")
    t.closes()


@case(compress={})
def deflate_examples(t):
    """RFC 7692 section 7.2.3"""
    z = client(t.open(OFFER))
    samples = {
        "one block": b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        "stored": b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        "final block": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        "two blocks": b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    }
    for name, data in samples.items():
        t.send(frame(TEXT, data, rsv=4))
        t.expect(z.unpack(t.message()[1]) == b"Hello", name)
    t.send(frame(TEXT, b"\x00", rsv=4))
    t.expect(t.message()[1] == b"\x00", "an empty message")
    t.closes()


HELLO, HELLO_AGAIN = b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x00\x11\x00\x00"


def shared_window(offer):
    def run(t):
        z = client(t.open(offer))
        t.expect("client_no_context_takeover" not in t.fields["sec-websocket-extensions"], "context takeover was to be agreed")
        for data in (HELLO, HELLO_AGAIN, HELLO_AGAIN, HELLO):
            t.send(frame(TEXT, data, rsv=4))
            t.expect(z.unpack(t.message()[1]) == b"Hello", "another message")
        t.closes()

    return run


# RFC 7692 section 7.2.3.2
for name, offer in (("", OFFER), ("_bits", OFFER + "; client_max_window_bits"), ("_server", OFFER + "; server_no_context_takeover")):
    case(f"deflate_example_of_a_shared_window{name}", compress=TAKEOVER)(shared_window(offer))


@case(compress={})
def deflate_example_of_a_shared_window_that_was_not_agreed(t):
    """a server may ask for client_no_context_takeover although the client did not offer it (section 7.1.1.2); then the client must keep to it"""
    client(t.open(OFFER))
    t.expect("client_no_context_takeover" in t.fields["sec-websocket-extensions"], "context takeover was not to be agreed")
    t.send(frame(TEXT, HELLO, rsv=4))
    t.message()
    t.send(frame(TEXT, HELLO_AGAIN, rsv=4))
    t.fails_with(1007)


@case(compress=TAKEOVER)
def deflate_example_of_a_shared_window_that_the_client_gave_up(t):
    """a parameter by which the client offers to limit itself is accepted, and appears in the answer"""
    client(t.open(OFFER + "; client_no_context_takeover"))
    t.expect("client_no_context_takeover" in t.fields["sec-websocket-extensions"], "the parameter is not in the answer")
    t.send(frame(TEXT, HELLO, rsv=4))
    t.message()
    t.send(frame(TEXT, HELLO_AGAIN, rsv=4))
    t.fails_with(1007)


@case(compress={})
def deflate_ping_between(t):
    z = client(t.open(OFFER))
    packed = z.pack(b"between " * 50)
    t.send(frame(TEXT, packed[:5], fin=False, rsv=4), frame(PING, "p"), frame(CONTINUATION, packed[5:]))
    t.expect_message(PONG, "p")
    t.expect(z.unpack(t.message()[1]) == b"between " * 50, "another message")
    t.closes()


def refused(data, code, **options):
    def run(t):
        t.open(OFFER + "; client_max_window_bits").send(data)
        t.fails_with(code)

    return case(**options)(run)


def packed(data):
    return wire.Deflate(12).pack(data)


def before(data):
    """Compressed data that refers to bytes that were never sent."""
    z = zlib.compressobj(6, zlib.DEFLATED, -12, 8, zlib.Z_DEFAULT_STRATEGY, data)
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


REFUSED = {
    "garbage": (frame(BINARY, b"\xff\xff\xff\xff", rsv=4), 1007, {}),
    "not_utf8": (frame(TEXT, packed(b"abc\xff"), rsv=4), 1007, {}),
    "ends_in_a_character": (frame(TEXT, packed(b"abc\xce"), rsv=4), 1007, {}),
    "rsv1_on_a_continuation": (frame(TEXT, b"\xf2", fin=False, rsv=4) + frame(CONTINUATION, b"\x48", rsv=4), 1002, {}),
    "rsv1_on_a_ping": (frame(PING, b"", rsv=4), 1002, {}),
    "rsv2": (frame(TEXT, packed(b"x"), rsv=6), 1002, {}),
    "larger_than_max_message": (frame(BINARY, packed(bytes(1001)), rsv=4), 1009, {"max_message": 1000}),
    "ratio": (frame(BINARY, packed(bytes(1500000)), rsv=4), 1009, {"max_message": 1 << 24}),
    "distance_too_far": (frame(BINARY, before(b"what the server never saw"), rsv=4), 1007, {}),
}
big = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = big.compress(bytes(1 << 25)) + big.flush(zlib.Z_SYNC_FLUSH)
REFUSED["bomb"] = (frame(BINARY, BOMB, rsv=4), 1009, {})
for name, (data, code, options) in REFUSED.items():
    refused(data, code, compress={}, **options)
    CASES[-1].name = f"deflate_refuses_{name}"


@case(compress={"max_ratio": 1032}, max_message=1 << 24)
def deflate_ratio_may_be_raised(t):
    z = client(t.open(OFFER + "; client_max_window_bits"))
    t.port.case = None
    t.send(frame(BINARY, z.pack(bytes(1500000)), rsv=4))
    t.until(lambda: t.port.heard, "the message")
    t.expect(t.port.heard[0] == (77, BINARY, bytes(1500000)), "another message")


@case(compress={}, max_message=1000)
def deflate_exactly_max_message(t):
    z = client(t.open(OFFER + "; client_max_window_bits"))
    exchange(t, z, BINARY, bytes(1000))
    t.closes()
