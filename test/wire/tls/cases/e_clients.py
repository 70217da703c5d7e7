# SPDX-License-Identifier: Apache-2.0
"""Clients' certificates (RFC 8446, sections 4.4.2 and 4.4.3; RFC 5246, sections 7.4.6 and 7.4.8)."""

from lib.tls import CCS, ECDSA_SHA1, HANDSHAKE, RSA_SHA256, message, record, vector
from wire.tls.peer import CA, GET, case, der, pem, tls

REFUSED = (
    "bad_certificate", "unsupported_certificate", "certificate_unknown", "unknown_ca", "certificate_required", "decrypt_error", "decode_error",
    "illegal_parameter", "unexpected_message", "handshake_failure", "certificate_expired",
)  # fmt: skip


def required(function):
    """A case for each version, with a listener that requires a certificate. Afterwards a client with a certificate is served."""

    def named(version):
        def run(t):
            function(t, version)
            well(t.another(), version).get()

        run.__doc__ = f"TLS 1.{version - 10}: {function.__doc__}"
        run.__name__ = f"{function.__name__}_{version}"
        case("a-ec", client=2, client_ca=CA)(run)

    named(12)
    named(13)
    return function


def say(t, whole, counts=True):
    """A handshake message, encrypted as its position requires."""
    t.tls.transcript += whole if counts else b""
    return t.message(whole) if t.tls.version == 12 else t.sealed(HANDSHAKE, whole)


def show(t, chain):
    """The certificate, and the messages before its proof."""
    say(t, t.tls.certificate_message(chain))
    if t.tls.version == 12:
        t.message(t.tls.key_exchange())


def finish(t):
    if t.tls.version == 13:
        return t.send(t.tls.finish())
    t.send(record(CCS, b"\1"))
    t.tls.write = t.tls.write_12
    return t.sealed(HANDSHAKE, t.tls.finished_12())


def well(t, version):
    t.flight(version=version)
    show(t, [der("client")])
    say(t, t.tls.certificate_verify(pem("client.key")))
    return finish(t)


def refused(t, *more):
    """However it is done; a request after it reaches nobody."""
    t.sealed(tls.DATA, GET) if t.tls.write else None
    return t.expect_alert(*REFUSED, *more).no_request()


@required
def client_plain(t, version):
    """a certificate, and the proof that the client has its key"""
    well(t, version).get()


@required
def client_without_a_proof(t, version):
    """CertificateVerify is missing: anyone can show the certificate of another"""
    t.flight(version=version)
    show(t, [der("client")])
    refused(finish(t))


@required
def client_with_the_proof_of_another(t, version):
    """another key, whose certificate follows in the chain"""
    t.flight(version=version)
    show(t, [der("client"), der("stranger")])
    say(t, t.tls.certificate_verify(pem("b.key")))
    refused(finish(t))


@required
def client_with_a_proof_of_before(t, version):
    """the signature of another handshake, replayed"""
    first = t.another()
    first.flight(version=version)
    show(first, [der("client")])
    old = first.tls.certificate_verify(pem("client.key"))
    t.flight(version=version)
    show(t, [der("client")])
    say(t, old)
    refused(finish(t))


@required
def client_with_a_proof_by_a_scheme_that_is_not_taken(t, version):
    """SHA-1, and a scheme for another kind of key"""
    for scheme in (ECDSA_SHA1, RSA_SHA256, 0):
        one = t.another().flight(version=version)
        show(one, [der("client")])
        say(one, one.tls.certificate_verify(pem("client.key"), scheme))
        refused(finish(one))


@case("a-ec", client=2, client_ca=CA)
def client_with_the_proof_of_a_server(t):
    """TLS 1.3: the signed text names the signer's role"""
    t.flight()
    show(t, [der("client")])
    say(t, t.tls.certificate_verify(pem("client.key"), role=b"server"))
    refused(finish(t))


@required
def client_with_a_proof_that_is_cut(t, version):
    """empty, too short, longer than announced"""
    for body in (b"", b"\4", b"\4\3", b"\4\3\0\0", b"\4\3\0\10abc", b"\4\3\0\1a" + bytes(60)):
        one = t.another().flight(version=version)
        show(one, [der("client")])
        say(one, message(tls.CERTIFICATE_VERIFY, body))
        refused(one, "internal_error")


@required
def client_with_nothing_to_show(t, version):
    """an empty list, with or without a proof"""
    for proof in (False, True):
        one = t.another().flight(version=version)
        show(one, [])
        if proof:
            say(one, one.tls.certificate_verify(pem("client.key")))
        refused(finish(one))


@required
def client_that_says_no_certificate(t, version):
    """the message is left out"""
    t.flight(version=version)
    if version == 12:
        t.message(t.tls.key_exchange())
    refused(finish(t))


@required
def client_of_a_stranger(t, version):
    """issued by an unknown authority; a server's; and one followed by the clients' authority, which does not help"""
    for chain, key in ((["stranger"], "stranger"), (["b"], "b"), (["stranger", "ca"], "stranger"), (["stranger", "client", "ca"], "stranger")):
        one = t.another().flight(version=version)
        show(one, [der(name) for name in chain])
        say(one, one.tls.certificate_verify(pem(f"{key}.key")))
        refused(finish(one))


@required
def client_with_a_long_chain(t, version):
    """more than four certificates, and more than 16 KiB of them"""
    for count in (4, 20, 100):
        one = t.another().flight(version=version)
        whole = one.tls.certificate_message([der("client")] + [der("ca")] * count)
        one.tls.transcript += whole
        for at in range(0, len(whole), 16000):
            one.message(whole[at : at + 16000]) if version == 12 else one.sealed(HANDSHAKE, whole[at : at + 16000])
        if version == 12:
            one.message(one.tls.key_exchange())
        say(one, one.tls.certificate_verify(pem("client.key")))
        finish(one)
        one.sealed(tls.DATA, GET).until(lambda one=one: one.alerts or one.closed, "refusal").no_request()


@required
def client_with_no_certificate_in_it(t, version):
    """garbage, an empty entry, a truncated certificate"""
    for chain in ([b"garbage"], [b""], [der("client")[:-5]], [der("client"), b""], [der("client") + b"\0"], [b"\x30\x84\xff\xff\xff\xff"]):
        one = t.another().flight(version=version)
        show(one, chain)
        say(one, one.tls.certificate_verify(pem("client.key")))
        refused(finish(one))


@required
def client_with_lengths_that_do_not_fit(t, version):
    """wrong lengths, of the list and inside it"""
    one_entry = vector(3, der("client")) + (b"\0\0" if version == 13 else b"")
    for body in (b"", b"\0", b"\0\0\5ab", vector(3, one_entry)[:-3], vector(3, one_entry) + b"\0", vector(3, b"\xff\xff\xff" + one_entry), vector(3, b"\0\0")):
        one = t.another().flight(version=version)
        say(one, message(tls.CERTIFICATE, (b"\0" if version == 13 else b"") + body))
        if version == 12:
            one.message(one.tls.key_exchange())
            say(one, one.tls.certificate_verify(pem("client.key")))
            finish(one)
        refused(one)


@case("a-ec", client=2, client_ca=CA)
def client_with_the_context_of_another_request(t):
    """TLS 1.3: it is empty in a handshake (RFC 8446, section 4.3.2)"""
    t.flight()
    say(t, t.tls.certificate_message([der("client")], context=b"x"))
    refused(t)


@case("a-ec", client=2, client_ca=CA)
def client_with_two_certificates(t):
    """TLS 1.3: the message twice"""
    t.flight()
    show(t, [der("client")])
    show(t, [der("client")])
    refused(t)


@case("a-ec", client=2, client_ca=CA)
def client_proof_before_the_key_exchange(t):
    """TLS 1.2: in another order"""
    t.flight(version=12)
    say(t, t.tls.certificate_message([der("client")]))
    say(t, t.tls.certificate_verify(pem("client.key")))
    refused(t)


@case("a-ec", client=1, client_ca=CA)
def client_that_is_asked_only(t):
    """no certificate is fine, but one without its proof is not"""
    for version in (12, 13):
        one = t.another().flight(version=version)
        show(one, [])
        finish(one).get()
        well(t.another(), version).get()
        served = len(t.port.exchanges)
        other = t.another().flight(version=version)
        show(other, [der("client")])
        finish(other).sealed(tls.DATA, GET).expect_alert(*REFUSED)
        other.expect(len(t.port.exchanges) == served, "a request reached the host")
