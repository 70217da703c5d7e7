# SPDX-License-Identifier: Apache-2.0
"""Fragmentation (RFC 6455 section 5.4)."""

from wire.websocket.case import case
from lib.ws import BINARY, CONTINUATION, PING, PONG, TEXT, cut, frame, fragments


def echo(opcode, pieces, way):
    def run(t):
        t.open()
        data = fragments(opcode, *pieces)
        t.send(data) if way == "whole" else t.send_cut(data, 1 if way == "bytewise" else 50)
        t.expect_message(opcode, b"".join(p.encode() if isinstance(p, str) else p for p in pieces))
        t.closes()

    return run


SHAPES = {
    "two": ("frag", "ment"),
    "first_empty": ("", "abc"),
    "last_empty": ("abc", ""),
    "middle_empty": ("a", "", "c"),
    "all_empty": ("", "", ""),
    "ten": tuple("0123456789"),
    "text_cut_in_a_character": (b"\xce", b"\xba\xe1\xbd", b"\xb9"),
}
for shape, pieces in SHAPES.items():
    for way in ("whole", "bytewise"):
        case(f"fragments_{shape}_{way}")(echo(TEXT, pieces, way))
case("fragments_1000_of_one_byte")(echo(BINARY, [b"x"] * 1000, "whole"))
case("fragments_large")(echo(BINARY, cut(bytes(200000), 16384), "whole"))


def with_ping(way):
    def run(t):
        t.open()
        data = frame(TEXT, "frag", fin=False) + frame(PING, "in between") + frame(CONTINUATION, "ment")
        t.send(data) if way == "whole" else t.send_cut(data)
        t.expect_message(PONG, "in between")
        t.expect_message(TEXT, "fragment")
        t.closes()

    return run


case("fragments_with_a_ping_whole")(with_ping("whole"))
case("fragments_with_a_ping_bytewise")(with_ping("bytewise"))


@case()
def fragments_with_pings_everywhere(t):
    t.open()
    for i in range(5):
        t.send(frame(CONTINUATION if i else TEXT, str(i), fin=i == 4), frame(PING, str(i)))
        if i < 4:
            t.expect_message(PONG, str(i))
    got = sorted(t.message()[:2] for _ in range(2))
    t.expect(got == [(TEXT, b"01234"), (PONG, b"4")], f"{got}")
    t.closes()


REFUSED = {
    "continuation_of_nothing": frame(CONTINUATION, "x"),
    "unfinished_continuation_of_nothing": frame(CONTINUATION, "x", fin=False),
    "continuation_after_a_message": frame(BINARY, "x") + frame(CONTINUATION, "y"),
    "text_inside_of_a_message": frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
    "binary_inside_of_a_message": frame(TEXT, "a", fin=False) + frame(BINARY, "b"),
    "fragment_begins_another": frame(TEXT, "a", fin=False) + frame(TEXT, "b", fin=False),
    "after_whole_fragments": fragments(BINARY, b"a", b"b") + frame(CONTINUATION, "c"),
}
for name, data in REFUSED.items():

    def refused(t, data=data):
        t.open().send(data)
        while True:
            taken = t.frame()
            if taken[0] != BINARY or not taken[2]:
                break
        t.expect(taken[:2][0] == 8 and taken[1][:2] == b"\x03\xea", f"{taken}")
        t.expect_eof()
        t.hears_end(70, "error")

    case(f"fragments_{name}")(refused)
