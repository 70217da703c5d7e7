# SPDX-License-Identifier: Apache-2.0
"""UTF-8 (RFC 6455 section 8.1, RFC 3629), the vectors of Markus Kuhn's stress test among them; failing fast."""

from lib import ws as wire
from wire.websocket.case import case
from lib.ws import BINARY, CONTINUATION, TEXT, frame, fragments

KOSME = "κόσμε".encode()

VALID = {
    "kosme": KOSME,
    "first_1": b"\x00",
    "first_2": b"\xc2\x80",
    "first_3": b"\xe0\xa0\x80",
    "first_4": b"\xf0\x90\x80\x80",
    "last_1": b"\x7f",
    "last_2": b"\xdf\xbf",
    "last_3": b"\xef\xbf\xbf",
    "last_4": b"\xf4\x8f\xbf\xbf",
    "before_surrogates": b"\xed\x9f\xbf",
    "after_surrogates": b"\xee\x80\x80",
    "replacement": b"\xef\xbf\xbd",
    "noncharacter_fffe": b"\xef\xbf\xbe",
    "noncharacter_1ffff": b"\xf0\x9f\xbf\xbf",
    "noncharacter_10fffe": b"\xf4\x8f\xbf\xbe",
    "mixed": "Hello-µ@ßöäüàá-UTF-8!! 日本語 🎉".encode() * 20,
}

# the bytes, and the index of the first invalid one
INVALID = {
    "first_5": (b"\xf8\x88\x80\x80\x80", 0),
    "first_6": (b"\xfc\x84\x80\x80\x80\x80", 0),
    "last_4_of_the_scheme": (b"\xf7\xbf\xbf\xbf", 0),
    "last_5": (b"\xfb\xbf\xbf\xbf\xbf", 0),
    "last_6": (b"\xfd\xbf\xbf\xbf\xbf\xbf", 0),
    "beyond_unicode": (b"\xf4\x90\x80\x80", 1),
    "continuation_80": (b"\x80", 0),
    "continuation_bf": (b"\xbf", 0),
    "continuations_2": (b"\x80\xbf", 0),
    "continuations_7": (b"\x80\xbf\x80\xbf\x80\xbf\x80", 0),
    "lonely_start_2": (b"\xc3\x20", 1),
    "lonely_start_3": (b"\xe4\x20", 1),
    "lonely_start_4": (b"\xf1\x20", 1),
    "missing_3": (b"\xe1\x80\x20", 2),
    "missing_4": (b"\xf1\x80\x80\x20", 3),
    "fe": (b"\xfe", 0),
    "ff": (b"\xff", 0),
    "fefe": (b"\xfe\xfe\xff\xff", 0),
    "overlong_2": (b"\xc0\xaf", 0),
    "overlong_3": (b"\xe0\x80\xaf", 1),
    "overlong_4": (b"\xf0\x80\x80\xaf", 1),
    "overlong_max_2": (b"\xc1\xbf", 0),
    "overlong_max_3": (b"\xe0\x9f\xbf", 1),
    "overlong_max_4": (b"\xf0\x8f\xbf\xbf", 1),
    "overlong_nul_2": (b"\xc0\x80", 0),
    "overlong_nul_3": (b"\xe0\x80\x80", 1),
    "surrogate_d800": (b"\xed\xa0\x80", 1),
    "surrogate_dbff": (b"\xed\xaf\xbf", 1),
    "surrogate_dfff": (b"\xed\xbf\xbf", 1),
    "surrogate_pair": (b"\xed\xa0\x80\xed\xb0\x80", 1),
    "behind_text": (KOSME + b"\xff", len(KOSME)),
}
CUT_SHORT = {"2": b"\xc3", "3": b"\xe2\x82", "4": b"\xf0\x9f\x8e", "behind_text": KOSME + b"\xce"}


def echo(data, how):
    def run(t):
        t.open()
        if how == "whole":
            t.send(frame(TEXT, data))
        else:
            t.send(fragments(TEXT, *wire.cut(data, 1)))
        t.expect_message(TEXT, data)
        t.closes()

    return run


for name, data in VALID.items():
    case(f"utf8_valid_{name}")(echo(data, "whole"))
    if len(data) < 100:
        case(f"utf8_valid_{name}_in_fragments")(echo(data, "fragments"))


def refused(data, how):
    def run(t):
        t.open()
        t.send(frame(TEXT, data) if how == "whole" else fragments(TEXT, *wire.cut(data, 1)))
        t.fails_with(1007)

    return run


def fast(data, wrong_at):
    """Refused at the first invalid byte, although the frame announces more, which never comes."""

    def run(t):
        t.open().send(wire.header(TEXT, len(data) + 1000) + wire.masked(data)[: wrong_at + 1])
        t.fails_with(1007)

    return run


for name, (data, wrong_at) in INVALID.items():
    case(f"utf8_invalid_{name}")(refused(data, "whole"))
    case(f"utf8_invalid_{name}_fast")(fast(data, wrong_at))
for name, data in CUT_SHORT.items():
    case(f"utf8_cut_short_{name}")(refused(data, "whole"))
    case(f"utf8_cut_short_{name}_in_fragments")(refused(data, "fragments"))


@case()
def utf8_fast_across_fragments(t):
    t.open().send(frame(TEXT, KOSME + b"\xf4", fin=False), wire.header(CONTINUATION, 500, fin=False) + wire.masked(b"\x90"))
    t.fails_with(1007)


@case()
def utf8_not_in_binary(t):
    t.open().send(frame(BINARY, b"\xff\xfe"))
    t.expect_message(BINARY, b"\xff\xfe")
    t.closes()


@case()
def utf8_large_and_right(t):
    data = "ä€🎉 and ASCII between ".encode() * 4000
    t.open().send(frame(TEXT, data))
    t.expect_message(TEXT, data)
    t.closes()
