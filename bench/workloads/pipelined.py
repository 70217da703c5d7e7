# SPDX-License-Identifier: Apache-2.0
"""16 requests per write (HTTP/1.1 pipelining), 64 connections: the cost of a response when system calls are shared."""

import rates
import tools

CONNECTIONS = 64


def measure(bench):
    note = "Without times: wrk takes a batch for one request, and corrects its time as if it were."
    return rates.table(bench, f"Pipelined: 16 requests per write ({CONNECTIONS} connections)", {"": generate}, note=note)


def generate(server, seconds):
    return tools.wrk_pipelined(server.url(), CONNECTIONS, seconds)
