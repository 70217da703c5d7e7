# SPDX-License-Identifier: Apache-2.0
"""The opening handshake (RFC 6455 section 4.2), valid and invalid."""

from lib import ws as wire
from wire.websocket.case import case
from lib.ws import TEXT, frame

U, C, V, K = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {wire.KEY}"
WEBSOCKET, ASKS = 8, 4


def flags(t):
    return t.port.head[8]


def taken(*fields, **request):
    def run(t):
        t.send(t.request(*fields, **request))
        status, answer = t.answer()
        t.expect(status == 101, f"{status}")
        t.expect(flags(t) == ASKS | WEBSOCKET, f"flags {flags(t)}")
        t.expect(answer["sec-websocket-accept"] == wire.ACCEPT, "the accept value")
        t.expect(answer["upgrade"].lower() == "websocket" and answer["connection"].lower() == "upgrade", f"{answer}")
        t.expect("transfer-encoding" not in answer and "content-length" not in answer, f"{answer}")
        t.send(frame(TEXT, "x"))
        t.expect_message(TEXT, "x")
        t.closes()

    return run


TAKEN = {
    "plain": (U, C, V, K),
    "another_order": (K, V, C, U),
    "names_in_capitals": tuple(f.split(":")[0].upper() + ":" + f.split(":")[1] for f in (U, C, V, K)),
    "upgrade_in_capitals": ("Upgrade: WebSocket", C, V, K),
    "connection_list": (U, "Connection: keep-alive, Upgrade", V, K),
    "connection_list_tight": (U, "Connection: keep-alive,upgrade", V, K),
    "connection_twice": (U, "Connection: keep-alive", C, V, K),
    "upgrade_list": ("Upgrade: h2c, websocket", C, V, K),
    "upgrade_twice": ("Upgrade: h2c", U, C, V, K),
    "blanks": ("Upgrade:   websocket  ", "Connection:\tUpgrade ", "Sec-WebSocket-Version:13", K),
    "other_fields": (U, C, V, K, "Origin: http://a", "Cookie: a=b", "Sec-WebSocket-Protocol: chat"),
    "content_length_0": (U, C, V, K, "Content-Length: 0"),
    "absolute_target": (U, C, V, K),
}
for name, fields in TAKEN.items():
    case(f"handshake_{name}", http=(1,))(taken(*fields, **({"path": "http://a/x?y"} if name == "absolute_target" else {})))


@case(http=(1,))
def handshake_bytewise(t):
    for byte in t.request(U, C, V, K):
        t.send(bytes([byte]))
    t.expect(t.answer()[0] == 101, "not 101")
    t.closes()


# ---- the host upgrades nevertheless: the port refuses

def refused(status, *fields, asks=True, **request):
    def run(t):
        t.port.case, t.port.take_request = None, lambda stream, head: note(t, stream, head)
        try:
            t.send(t.request(*fields, **request))
            got, answer = t.answer()
        finally:
            del t.port.take_request
        t.expect(got == status, f"{got} instead of {status}")
        t.expect(flags(t) & (ASKS | WEBSOCKET) == (ASKS if asks else 0), f"flags {flags(t)}")
        t.sync()
        t.expect(len(t.port.errors) == 1, f"{t.port.errors}")
        t.port.errors.clear()
        if status == 426:
            t.expect(answer.get("sec-websocket-version") == "13", f"{answer}")
            t.expect(answer.get("upgrade") == "websocket", f"{answer}")

    return run


def note(t, stream, head):
    t.port.stream, t.port.head = stream, head
    t.port.send([13, stream, "websocket", [], {}])


REFUSED = {
    "version_8": (426, U, C, "Sec-WebSocket-Version: 8", K),
    "version_14": (426, U, C, "Sec-WebSocket-Version: 14", K),
    "version_013": (426, U, C, "Sec-WebSocket-Version: 013", K),
    "version_list": (426, U, C, "Sec-WebSocket-Version: 13, 8", K),
    "no_version": (426, U, C, K),
    "version_twice": (400, U, C, V, V, K),
    "no_key": (400, U, C, V),
    "key_twice": (400, U, C, V, K, K),
    "key_empty": (400, U, C, V, "Sec-WebSocket-Key:"),
    "key_of_15_bytes": (400, U, C, V, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"),
    "key_of_17_bytes": (400, U, C, V, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="),
    "key_not_base64": (400, U, C, V, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2!jZQ=="),
    "key_url_base64": (400, U, C, V, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2-_ZQ=="),
    "another_protocol": (400, "Upgrade: websockets", C, V, K),
}
for name, (status, *fields) in REFUSED.items():
    case(f"handshake_refused_{name}", http=(1,))(refused(status, *fields))
case("handshake_refused_post", http=(1,))(refused(400, U, C, V, K, method="POST"))
case("handshake_refused_head", http=(1,))(refused(400, U, C, V, K, method="HEAD"))
case("handshake_refused_connection_without_upgrade", http=(1,))(refused(500, U, "Connection: keep-alive", V, K, asks=False))
case("handshake_refused_no_connection", http=(1,))(refused(500, U, V, K, asks=False))
case("handshake_refused_no_upgrade", http=(1,))(refused(500, C, V, K, asks=False))
case("handshake_refused_http_1_0", http=(1,))(refused(500, U, C, V, K, asks=False, version="1.0"))


@case(http=(1,))
def handshake_refused_with_a_body(t):
    refused(500, U, C, V, K, "Content-Length: 5", asks=False)(t)


@case(http=(1,))
def handshake_of_one_who_pipelines(t):
    """bytes after the request are read as HTTP only once it is answered"""
    t.port.case, t.port.take_request = None, lambda stream, head: heads.append((stream, head))
    heads = []
    try:
        t.send(t.request(U, C, V, K), t.request("X: 2", path="/second"))
        t.until(lambda: heads, "the first request")
        t.sync()
        t.expect(len(heads) == 1, "the second request was read")
        t.port.send([4, heads[0][0], 200, [], b"no"])
        t.expect(t.answer()[0] == 200, "not 200")
        t.expect(t.input[:2] == b"no" or not t.input, "another body")
        t.until(lambda: len(heads) == 2, "the second request")
        t.expect(heads[1][1][4] == "/second", "another request")
        t.port.send([4, heads[1][0], 204, [], b""])
    finally:
        del t.port.take_request


@case(http=(1,))
def handshake_behind_another_request(t):
    heads = []
    t.port.take_request = lambda stream, head: heads.append((stream, head))
    try:
        t.send(t.request(path="/first"), t.request(U, C, V, K))
        t.until(lambda: heads, "the first request")
        t.sync()
        t.expect(len(heads) == 1, "the upgrade was not held back")
        t.port.send([4, heads[0][0], 200, [], b""])
        t.expect(t.answer()[0] == 200, "not 200")
        t.until(lambda: len(heads) == 2, "the upgrade")
        t.port.stream = heads[1][0]
        t.port.send([13, heads[1][0], "websocket", [], {}], [2, heads[1][0], 9, 1])
    finally:
        del t.port.take_request
    t.expect(t.answer()[0] == 101, "not 101")
    t.send(wire.close(1000))
    t.expect_close(1000)


@case(http=(1,))
def handshake_with_fields_of_the_host(t):
    t.port.case, t.port.take_request = None, lambda stream, head: t.port.send(
        [13, stream, "websocket", ["sec-websocket-protocol", b"chat.v2", "set-cookie", b"a=b"], {}]
    )
    try:
        t.send(t.request(U, C, V, K, "Sec-WebSocket-Protocol: chat.v1, chat.v2"))
        status, answer = t.answer()
    finally:
        del t.port.take_request
    t.expect(status == 101 and answer["sec-websocket-protocol"] == "chat.v2" and answer["set-cookie"] == "a=b", f"{answer}")


def host_breaks(fields, options, what):
    def run(t):
        t.port.case, t.port.take_request = None, lambda stream, head: t.port.send([13, stream, "websocket", fields, options])
        try:
            t.send(t.request(U, C, V, K))
            status, _ = t.answer()
        finally:
            del t.port.take_request
        t.expect(status == 500, f"{status}")
        t.sync()
        t.expect([what] == t.port.errors, f"{t.port.errors}")
        t.port.errors.clear()

    return run


HOST = {
    "accept": (["sec-websocket-accept", b"x"], {}, "headers has a field that the port writes: sec-websocket-accept"),
    "upgrade": (["upgrade", b"x"], {}, "headers has a framing or hop-by-hop field: upgrade"),
    "line_break": (["x-a", b"a\r\nb: c"], {}, "headers has a value with a control character: x-a"),
    "unknown_option": ([], {"max_mesage": 1}, "max_mesage is unknown"),
    "option_out_of_range": ([], {"max_message": 0}, "max_message must be 1 to 1073741824 bytes"),
    "compress_unknown": ([], {"compress": {"lvl": 1}}, "lvl is unknown"),
    "compress_out_of_range": ([], {"compress": {"server_max_window_bits": 8}}, "server_max_window_bits must be 9 to 15"),
}
for name, (fields, options, what) in HOST.items():
    case(f"handshake_host_breaks_{name}", http=(1,))(host_breaks(fields, options, what))
