# SPDX-License-Identifier: Apache-2.0
"""Tickets (RFC 8446, sections 2.2, 4.2.11 and 4.6.1; RFC 6066, section 3)."""

from lib.tls import EARLY_DATA, PSK_MODES, TICKET, extension, record, vector
from wire.tls.cases.a_hello import with_own, without
from wire.tls.peer import case, tls


def ticket(t, **more):
    """A ticket of a connection that was served."""
    first = t.another().served(**more)
    first.until(lambda: first.tls.tickets, "ticket")
    return first.tls.tickets[-1]


@case()
def resumption_plain(t):
    """a ticket works once, and again: there is no early data that could be replayed"""
    psk = ticket(t)
    for _ in range(2):
        one = t.another().served(psk=psk)
        one.expect(one.tls.facts["resumed"], "it was not resumed")
        one.expect(one.tls.facts["alpn"] == b"http/1.1", "without ALPN")
        one.expect(11 not in [kind for kind, _ in one.tls.heard], "a certificate was sent")


@case()
def resumption_of_another_name(t):
    """the certificate may be the same: the session is not (RFC 6066, section 3)"""
    psk = ticket(t, name="a.example")
    t.served(psk=psk, name="both.example")
    t.expect(not t.tls.facts["resumed"], "it was resumed")


@case()
def resumption_with_a_wrong_binder(t):
    """the client does not know the secret (CVE-2026-1584)"""
    client = t.client(psk=ticket(t))
    t.message(client.hello(change_binder=True)).expect_alert("decrypt_error", "illegal_parameter", "bad_record_mac")


@case()
def resumption_with_two_identities_and_one_binder(t):
    """each identity needs a binder"""
    client = t.client(psk=ticket(t))
    t.message(client.hello(identities=2)).expect_alert("illegal_parameter")


@case()
def resumption_with_many_identities(t):
    """as many identities as fit, with one binder"""
    client = t.client(psk=ticket(t))
    t.message(client.hello(identities=60)).expect_alert("illegal_parameter")


@case()
def resumption_with_a_changed_ticket(t):
    """unknown tickets are ignored: a full handshake"""
    identity, key, age = ticket(t)
    for changed in (bytes([identity[0] ^ 1]) + identity[1:], identity[:-1] + bytes([identity[-1] ^ 1]), identity[:10], b"x"):
        one = t.another().served(psk=(changed, key, age))
        one.expect(not one.tls.facts["resumed"], "it was resumed")


@case()
def resumption_with_an_empty_identity(t):
    """an identity has at least one byte"""
    _, key, age = ticket(t)
    t.client(psk=(b"", key, age))
    t.message(t.tls.hello()).expect_alert("decode_error")


@case()
def resumption_without_modes(t):
    """psk_key_exchange_modes is missing (RFC 8446, section 4.2.9)"""
    client = t.client(psk=ticket(t))
    t.message(client.hello(without(client, PSK_MODES)))
    t.until(lambda: t.alerts or t.tls.flight_is_whole, "answer")
    t.expect(t.alerts in (["missing_extension"], ["illegal_parameter"]) or not t.tls.facts.get("resumed"), "it was resumed")


@case()
def resumption_without_a_key_exchange(t):
    """psk_ke alone has no forward secrecy: a full handshake"""
    client = t.client(psk=ticket(t))
    t.message(client.hello(with_own(client, PSK_MODES, b"\1\0")))
    t.until(lambda: t.alerts or t.tls.flight_is_whole, "answer")
    t.expect(not t.alerts and not t.tls.facts["resumed"], "it was resumed")


@case()
def resumption_with_early_data(t):
    """early data that a ticket did not allow is skipped, and never reaches a handler"""
    t.hello(psk=ticket(t), extra=extension(EARLY_DATA, b""))
    t.send(record(tls.DATA, bytes(300)))
    t.flight()
    t.expect(len(t.port.exchanges) == 1, "a request reached the host")


@case("a-ec", tickets=False)
def resumption_where_there_are_no_tickets(t):
    """none is given"""
    t.served().expect(not t.tls.tickets, "a ticket")
    t.get().expect(not t.tls.tickets, "a ticket")


@case()
def ticket_of_1_2_that_is_garbage(t):
    """TLS 1.2: a full handshake"""
    for size in (1, 16, 200, 5000):
        t.another().served(version=12, extra=extension(TICKET, bytes(size)))


@case()
def binders_cut(t):
    """lengths in pre_shared_key that do not fit"""
    identity, _, age = ticket(t)
    one_identity, binder = vector(2, identity) + age, vector(1, bytes(32))
    for body in (
        b"",
        vector(2, b"") + vector(2, b""),
        vector(2, one_identity),
        vector(2, one_identity) + vector(2, b""),
        vector(2, one_identity) + vector(2, vector(1, bytes(4))),
        vector(2, one_identity) + vector(2, binder)[:-3],
        vector(2, one_identity) + vector(2, binder) + b"\0",
        vector(2, one_identity[:-2]) + vector(2, binder),
    ):
        other = t.another()
        client = other.client(extra=extension(tls.PRE_SHARED_KEY, body))
        other.message(client.hello()).expect_alert("decode_error", "illegal_parameter")
