# SPDX-License-Identifier: Apache-2.0
"""The same as tls_handshake with a certificate of RSA-2048."""

import rates

from . import tls_handshake


def measure(bench):
    cases = {f"rsa 1.{version - 10} full": tls_handshake.one("rsa", version, "full") for version in (13, 12)}
    return rates.table(bench, "A connection over TLS, RSA-2048", cases, ("sparx, tls", "nginx, tls"))
