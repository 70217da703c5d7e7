# SPDX-License-Identifier: Apache-2.0
"""A response of 100 KB from memory (nginx: from an open file, with sendfile), 64 connections."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    return rates.table(bench, f"A response of 100 KB ({CONNECTIONS} connections)", {"": generate})


def generate(server, seconds):
    return tools.wrk(server.url("/kilobytes/100"), CONNECTIONS, seconds)
