# SPDX-License-Identifier: Apache-2.0
"""CPU time of a TLS connection: handshake, a request, close; full and resumed."""

import rates
import servers
import tools

CASES = [
    ("ecdsa", 13, "full"),
    ("ecdsa", 13, "resumed"),
    ("ecdsa", 12, "full"),
    ("ecdsa", 12, "resumed"),
]


def measure(bench):
    cases = {f"{kind} 1.{version - 10} {mode}": one(kind, version, mode) for kind, version, mode in CASES}
    note = "16 connections at a time, P-256, X25519, AES-128-GCM; read the last column."
    return rates.table(bench, "A connection over TLS", cases, servers.SECURE_NAMES, note)


def one(kind, version, mode):
    """CPU time matters here, and can be measured faster than a rate."""
    return lambda server, seconds: tools.handshakes(server.port, kind, version, mode, seconds * 3 / 4)
