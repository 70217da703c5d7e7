# SPDX-License-Identifier: Apache-2.0
"""The client's side of TLS 1.2 and 1.3, without sockets, where the caller can change every byte.

It is for tests: it knows one suite (AES-128-GCM with SHA-256) and one group (X25519), ignores certificates, and avoids randomness. The cipher is libcrypto's,
called through ctypes; `AVAILABLE` says whether libcrypto is installed.

    client = tls.Client(name="a.example", alpn=[b"http/1.1"])
    out = client.record(tls.HANDSHAKE, client.hello())
    client.feed(what the server sent); until client.flight_is_whole
    out = client.finish(); then client.seal(tls.DATA, b"GET / ...") and client.feed(...) -> [(type, payload), ...]
"""

import ctypes
import ctypes.util
import hashlib
import hmac
import os
import struct

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, ENCRYPTED_EXTENSIONS, CERTIFICATE = 1, 2, 4, 8, 11
SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED = 12, 13, 14, 15, 16, 20
KEY_UPDATE, MESSAGE_HASH = 24, 254
ECDSA_SHA256, ECDSA_SHA1, RSA_SHA256 = 0x0403, 0x0203, 0x0401
SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, EXTENDED_MASTER_SECRET, TICKET = 0, 10, 11, 13, 16, 23, 35
PRE_SHARED_KEY, EARLY_DATA, VERSIONS, COOKIE, PSK_MODES, KEY_SHARE, RENEGOTIATION = 41, 42, 43, 44, 45, 51, 0xFF01
ALERTS = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure", 42: "bad_certificate",
    43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
    47: "illegal_parameter", 48: "unknown_ca", 50: "decode_error", 51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security",
    80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
    110: "unsupported_extension", 112: "unrecognized_name", 116: "certificate_required", 120: "no_application_protocol",
}  # fmt: skip
RETRY = hashlib.sha256(b"HelloRetryRequest").digest()

# ---- cryptography


def _library():
    name = ctypes.util.find_library("crypto")
    if not name:
        return None
    crypto = ctypes.CDLL(name)
    for function in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm", "EVP_MD_CTX_new", "EVP_sha256", "BIO_new_mem_buf", "PEM_read_bio_PrivateKey"):
        getattr(crypto, function).restype = ctypes.c_void_p
    return crypto


_CRYPTO = _library()
AVAILABLE = _CRYPTO is not None


class Gcm:
    """AES-128-GCM with one key."""

    SET_IVLEN, GET_TAG, SET_TAG = 9, 16, 17

    def __init__(self, key, encrypt):
        self.context, self.encrypt = ctypes.c_void_p(_CRYPTO.EVP_CIPHER_CTX_new()), encrypt
        self._init(ctypes.c_void_p(_CRYPTO.EVP_aes_128_gcm()), key, None)

    def __del__(self):
        _CRYPTO.EVP_CIPHER_CTX_free(self.context)

    def _init(self, cipher, key, nonce):
        (_CRYPTO.EVP_EncryptInit_ex if self.encrypt else _CRYPTO.EVP_DecryptInit_ex)(self.context, cipher, None, key, nonce)

    def _update(self, into, data):
        size = ctypes.c_int()
        (_CRYPTO.EVP_EncryptUpdate if self.encrypt else _CRYPTO.EVP_DecryptUpdate)(self.context, into, ctypes.byref(size), data, len(data))

    def seal(self, nonce, about, data):
        self._init(None, None, nonce)
        self._update(None, about)
        out, tag = ctypes.create_string_buffer(len(data) + 1), ctypes.create_string_buffer(16)
        self._update(out, data)
        size = ctypes.c_int()
        _CRYPTO.EVP_EncryptFinal_ex(self.context, ctypes.create_string_buffer(16), ctypes.byref(size))
        _CRYPTO.EVP_CIPHER_CTX_ctrl(self.context, self.GET_TAG, 16, tag)
        return out.raw[: len(data)] + tag.raw

    def open(self, nonce, about, data):
        self._init(None, None, nonce)
        self._update(None, about)
        data, tag = data[:-16], data[-16:]
        out = ctypes.create_string_buffer(len(data) + 1)
        self._update(out, data)
        _CRYPTO.EVP_CIPHER_CTX_ctrl(self.context, self.SET_TAG, 16, ctypes.create_string_buffer(tag, 16))
        size = ctypes.c_int()
        if _CRYPTO.EVP_DecryptFinal_ex(self.context, ctypes.create_string_buffer(16), ctypes.byref(size)) != 1:
            raise ValueError("a record of the server has the wrong tag")
        return out.raw[: len(data)]


def sign(key, data):
    """ECDSA with SHA-256, with a key in PEM."""
    bio = ctypes.c_void_p(_CRYPTO.BIO_new_mem_buf(key, len(key)))
    private = ctypes.c_void_p(_CRYPTO.PEM_read_bio_PrivateKey(bio, None, None, None))
    context, size = ctypes.c_void_p(_CRYPTO.EVP_MD_CTX_new()), ctypes.c_size_t(256)
    signature = ctypes.create_string_buffer(size.value)
    _CRYPTO.EVP_DigestSignInit(context, None, ctypes.c_void_p(_CRYPTO.EVP_sha256()), None, private)
    assert _CRYPTO.EVP_DigestSign(context, signature, ctypes.byref(size), data, ctypes.c_size_t(len(data))) == 1, "no signature"
    _CRYPTO.EVP_MD_CTX_free(context)
    _CRYPTO.EVP_PKEY_free(private)
    _CRYPTO.BIO_free(bio)
    return signature.raw[: size.value]


def x25519(scalar, point=(9).to_bytes(32, "little")):
    """RFC 7748, section 5."""
    p = 2**255 - 19
    k = int.from_bytes(scalar, "little") & ~7 & ((1 << 255) - 1) | 1 << 254
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x1, x2, z2, x3, z3, swap = u, 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, e = aa * bb % p, aa - bb
        z2 = e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def expand_label(secret, label, context, size):
    """RFC 8446, section 7.1."""
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + bytes([len(context)]) + context
    out, block, n = b"", b"", 1
    while len(out) < size:
        block = mac(secret, block + info + bytes([n]))
        out, n = out + block, n + 1
    return out[:size]


def prf(secret, label, seed, size):
    """RFC 5246, section 5."""
    out, a = b"", label + seed
    while len(out) < size:
        a = mac(secret, a)
        out += mac(secret, a + label + seed)
    return out[:size]


# ---- output


def vector(size, data):
    return len(data).to_bytes(size, "big") + data


def message(kind, body):
    return bytes([kind]) + vector(3, body)


def extension(kind, body):
    return struct.pack(">H", kind) + vector(2, body)


def record(kind, payload, version=0x0303):
    return struct.pack(">BHH", kind, version, len(payload)) + payload


def server_name(name):
    return extension(SERVER_NAME, vector(2, b"\0" + vector(2, name.encode())))


def alpn(protocols):
    return extension(ALPN, vector(2, b"".join(vector(1, one) for one in protocols)))


class Keys13:
    def __init__(self, secret, encrypt):
        self.secret, self.encrypt = secret, encrypt
        self._derive()

    def _derive(self):
        self.gcm, self.iv, self.count = Gcm(expand_label(self.secret, b"key", b"", 16), self.encrypt), expand_label(self.secret, b"iv", b"", 12), 0

    def update(self):
        self.secret = expand_label(self.secret, b"traffic upd", b"", 32)
        self._derive()

    def nonce(self):
        n = int.from_bytes(self.iv, "big") ^ self.count
        self.count += 1
        return n.to_bytes(12, "big")

    def seal(self, kind, data, pad):
        inner = data + bytes([kind]) + bytes(pad)
        head = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
        return head + self.gcm.seal(self.nonce(), head, inner)

    def open(self, kind, data):
        if kind == CCS:
            return kind, data
        inner = self.gcm.open(self.nonce(), struct.pack(">BHH", kind, 0x0303, len(data)), data).rstrip(b"\0")
        return inner[-1], inner[:-1]


class Keys12:
    def __init__(self, key, iv, encrypt):
        self.gcm, self.iv, self.count = Gcm(key, encrypt), iv, 0

    def _about(self, kind, size):
        about = struct.pack(">QBHH", self.count, kind, 0x0303, size)
        self.count += 1
        return about

    def seal(self, kind, data, _pad):
        explicit = struct.pack(">Q", self.count)
        sealed = explicit + self.gcm.seal(self.iv + explicit, self._about(kind, len(data)), data)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed

    def open(self, kind, data):
        return kind, self.gcm.open(self.iv + data[:8], self._about(kind, len(data) - 24), data[8:])


class Client:
    def __init__(self, name="a.example", alpn=(b"http/1.1",), version=13, session_id=None, extra=b"", psk=None):
        """extra: bytes of extensions, placed after all except the pre-shared key. psk: one of the `tickets` of an earlier client."""
        self.name, self.protocols, self.version, self.extra, self.psk = name, alpn, version, extra, psk
        self.random, self.private = os.urandom(32), os.urandom(32)
        self.session_id = os.urandom(32) if session_id is None else session_id
        self.transcript, self.input, self.messages = b"", b"", b""
        self.read = self.write = self.next_read = None
        self.heard = []  # messages of the handshake: (kind, body)
        self.facts = {}
        self.tickets = []
        self.flight_is_whole = self.finished = False

    # ---- the first message

    def extensions(self):
        both = [
            server_name(self.name) if self.name else b"",
            alpn(self.protocols) if self.protocols else b"",
            extension(GROUPS, vector(2, b"\0\x1d")),
            extension(SIGNATURES, vector(2, b"\x04\x03\x08\x04\x04\x01\x08\x07")),
        ]
        if self.version == 12:
            return [*both, extension(POINT_FORMATS, vector(1, b"\0")), extension(RENEGOTIATION, b"\0")]
        share = b"\0\x1d" + vector(2, x25519(self.private))
        return [*both, extension(VERSIONS, vector(1, b"\x03\x04")), extension(PSK_MODES, vector(1, b"\x01")), extension(KEY_SHARE, vector(2, share))]

    def hello(self, extensions=None, suites=None, version=b"\x03\x03", compression=b"\0", identities=1, change_binder=False):
        """The message ClientHello, whose contents can be changed. identities: how often the pre-shared key is offered, with one binder."""
        suites = suites or (b"\x13\x01" if self.version == 13 else b"\xc0\x2b\xc0\x2f")
        all_of_them = (self.extensions() if extensions is None else list(extensions)) + [self.extra]
        head = version + self.random + vector(1, self.session_id) + vector(2, suites) + vector(1, compression)
        hello = message(CLIENT_HELLO, head + vector(2, b"".join(all_of_them)))
        if self.psk:
            hello = self._with_psk(head, all_of_them, identities, change_binder)
        self.transcript = hello
        return hello

    def _with_psk(self, head, extensions, identities, change_binder):
        identity, key, age = self.psk
        offered = vector(2, (vector(2, identity) + age) * identities)
        room = vector(2, vector(1, bytes(32)))
        whole = message(CLIENT_HELLO, head + vector(2, b"".join([*extensions, extension(PRE_SHARED_KEY, offered + room)])))
        early = mac(bytes(32), key)
        binder_key = expand_label(expand_label(early, b"res binder", sha(), 32), b"finished", b"", 32)
        binder = bytearray(mac(binder_key, sha(whole[: -len(room)])))
        binder[0] ^= change_binder
        return whole[:-32] + bytes(binder)

    def record(self, kind, payload):
        """In plain text."""
        return record(kind, payload, 0x0303 if self.heard else 0x0301)

    # ---- input

    def feed(self, data):
        """The decrypted records in `data`: [(type, payload)]. Handshake messages are processed as well."""
        self.input += data
        records = []
        while len(self.input) >= 5:
            kind, _, size = struct.unpack_from(">BHH", self.input)
            if len(self.input) < 5 + size:
                break
            payload, self.input = self.input[5 : 5 + size], self.input[5 + size :]
            if self.read:
                kind, payload = self.read.open(kind, payload)
            records.append((kind, payload))
            if kind == HANDSHAKE:
                self.messages += payload
                self._take_messages()
            elif kind == CCS and self.version == 12 and self.next_read:
                self.read, self.next_read = self.next_read, None
        return records

    def _take_messages(self):
        while len(self.messages) >= 4:
            size = int.from_bytes(self.messages[1:4], "big")
            if len(self.messages) < 4 + size:
                return
            whole, self.messages = self.messages[: 4 + size], self.messages[4 + size :]
            self._take(whole[0], whole[4:], whole)

    def _take(self, kind, body, whole):
        self.heard.append((kind, body))
        if self.finished:
            return self._take_later(kind, body)
        before = self.transcript
        self.transcript += whole
        if kind == SERVER_HELLO:
            self._take_server_hello(body)
        elif kind == ENCRYPTED_EXTENSIONS:
            self.facts["alpn"] = self._chosen(body[2:])
        elif kind == SERVER_KEY_EXCHANGE:
            self.theirs = body[4:36]
        elif kind == SERVER_HELLO_DONE:
            self.flight_is_whole = True
        elif kind == FINISHED and self.version == 13:
            wanted = mac(expand_label(self.secret_in, b"finished", b"", 32), sha(before))
            assert body == wanted, "the server's Finished is wrong"
            self.flight_is_whole = True
            self._application_keys()
        elif kind == FINISHED:
            self.finished = True

    def _take_server_hello(self, body):
        self.server_random = body[2:34]
        self.facts["retry"] = self.server_random == RETRY
        at = 35 + body[34]
        self.facts["suite"] = struct.unpack_from(">H", body, at)[0]
        extensions, self.facts["resumed"] = body[at + 5 :], False
        while extensions:
            kind, size = struct.unpack_from(">HH", extensions)
            value, extensions = extensions[4 : 4 + size], extensions[4 + size :]
            if kind == KEY_SHARE and not self.facts["retry"]:
                self.theirs = value[4:36]
            if kind == PRE_SHARED_KEY:
                self.facts["resumed"] = True
            if kind == ALPN:
                self.facts["alpn"] = value[3:]
        if self.version == 13 and not self.facts["retry"]:
            self._handshake_keys()

    @staticmethod
    def _chosen(extensions):
        while extensions:
            kind, size = struct.unpack_from(">HH", extensions)
            if kind == ALPN:
                return extensions[7 : 4 + size]
            extensions = extensions[4 + size :]
        return None

    def _take_later(self, kind, body):
        if kind == NEW_SESSION_TICKET:
            self._take_ticket(body)
        elif kind == KEY_UPDATE:
            self.read.update()

    def _take_ticket(self, body):
        nonce = body[9 : 9 + body[8]]
        at = 9 + len(nonce)
        identity = body[at + 2 : at + 2 + struct.unpack_from(">H", body, at)[0]]
        # Its age is 0, so the obfuscated age is just age_add.
        self.tickets.append((identity, expand_label(self.resumption, b"resumption", nonce, 32), body[4:8]))

    # ---- keys

    def _handshake_keys(self):
        early = mac(bytes(32), self.psk[1] if self.facts["resumed"] else bytes(32))
        shared = x25519(self.private, self.theirs)
        self.handshake_secret = mac(expand_label(early, b"derived", sha(), 32), shared)
        now = sha(self.transcript)
        self.secret_out, self.secret_in = (expand_label(self.handshake_secret, label, now, 32) for label in (b"c hs traffic", b"s hs traffic"))
        self.write, self.read = Keys13(self.secret_out, True), Keys13(self.secret_in, False)

    def _application_keys(self):
        master = mac(expand_label(self.handshake_secret, b"derived", sha(), 32), bytes(32))
        now = sha(self.transcript)
        self.master = master
        self.app_out = Keys13(expand_label(master, b"c ap traffic", now, 32), True)
        self.read = Keys13(expand_label(master, b"s ap traffic", now, 32), False)

    # ---- the client's certificate

    def certificate_message(self, chain, context=b""):
        """The message Certificate; chain: certificates in DER."""
        entries = b"".join(vector(3, one) + (b"\0\0" if self.version == 13 else b"") for one in chain)
        return message(CERTIFICATE, (vector(1, context) if self.version == 13 else b"") + vector(3, entries))

    def certificate_verify(self, key, scheme=ECDSA_SHA256, role=b"client", transcript=None):
        """The message CertificateVerify for the messages so far, or for another transcript."""
        transcript = self.transcript if transcript is None else transcript
        if self.version == 13:
            transcript = b" " * 64 + b"TLS 1.3, " + role + b" CertificateVerify\0" + sha(transcript)
        return message(CERTIFICATE_VERIFY, struct.pack(">H", scheme) + vector(2, sign(key, transcript)))

    # ---- the end of the handshake

    def finished_message(self, wrong=False):
        """TLS 1.3: the message Finished."""
        verify = bytearray(mac(expand_label(self.secret_out, b"finished", b"", 32), sha(self.transcript)))
        verify[0] ^= wrong
        return message(FINISHED, bytes(verify))

    def switch(self, finished):
        """TLS 1.3: switches to the keys for data, after Finished was sent."""
        self.transcript += finished
        self.resumption = expand_label(self.master, b"res master", sha(self.transcript), 32)
        self.write, self.finished = self.app_out, True

    def key_exchange(self):
        """TLS 1.2: the message ClientKeyExchange; after it the keys are known."""
        whole = message(CLIENT_KEY_EXCHANGE, vector(1, x25519(self.private)))
        self.transcript += whole
        self.master = prf(x25519(self.private, self.theirs), b"master secret", self.random + self.server_random, 48)
        block = prf(self.master, b"key expansion", self.server_random + self.random, 40)
        self.write_12, self.next_read = Keys12(block[:16], block[32:36], True), Keys12(block[16:32], block[36:40], False)
        return whole

    def finished_12(self):
        whole = message(FINISHED, prf(self.master, b"client finished", sha(self.transcript), 12))
        self.transcript += whole
        return whole

    def finish(self):
        """The records that complete the handshake correctly."""
        if self.version == 12:
            exchange, self.write = record(HANDSHAKE, self.key_exchange()), self.write_12
            return exchange + record(CCS, b"\1") + self.seal(HANDSHAKE, self.finished_12())
        done = self.finished_message()
        sealed = self.seal(HANDSHAKE, done)
        self.switch(done)
        return record(CCS, b"\1") + sealed

    def seal(self, kind, payload, pad=0):
        """An encrypted record."""
        return self.write.seal(kind, payload, pad)

    def key_update(self, asks=False):
        """The record of a KeyUpdate, after which new keys are used."""
        sealed = self.seal(HANDSHAKE, message(KEY_UPDATE, bytes([asks])))
        self.write.update()
        return sealed
