# SPDX-License-Identifier: Apache-2.0
"""Resident memory of 10,000 idle keep-alive connections, each after one request."""

import idling
import tools


def measure(bench):
    return idling.table(bench, "idle keep-alive connections", 10_000, idling.Http1, lambda server: tools.wrk(server.url(), 64, 2))
