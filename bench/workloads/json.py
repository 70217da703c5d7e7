# SPDX-License-Identifier: Apache-2.0
"""A small JSON document, encoded for each request from a number in its path (nginx: inserted into a text), 64 connections."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    return rates.table(bench, f"A JSON document of 73 bytes ({CONNECTIONS} connections)", {"": generate})


def generate(server, seconds):
    return tools.wrk(server.url("/json/4711"), CONNECTIONS, seconds)
