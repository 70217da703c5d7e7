# SPDX-License-Identifier: Apache-2.0
"""Resident memory of 2,000 idle connections over TLS, each after one request."""

import ssl

import idling
import servers
import tools


class Tls(idling.Http1):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def begin(self):
        self.socket = self.context.wrap_socket(self.socket, server_hostname="localhost")


def measure(bench):
    load = lambda server: tools.wrk(server.url(), 64, 2)  # noqa: E731
    return idling.table(bench, "idle connections over TLS", 2_000, Tls, load, servers.SECURE_NAMES)
