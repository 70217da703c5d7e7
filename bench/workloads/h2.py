# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 without TLS: h2load with 16 connections of 32 streams, a short answer and one of 10 KB."""

import rates
import tools

CONNECTIONS, STREAMS = 16, 32


def measure(bench):
    cases = {
        "hello": lambda server, seconds: generate(server, "/", seconds),
        "10 KB": lambda server, seconds: generate(server, "/kilobytes/10", seconds),
    }
    return rates.table(bench, f"HTTP/2 ({CONNECTIONS} connections of {STREAMS} streams)", cases)


def generate(server, path, seconds):
    return tools.h2load(server.h2_url(path), CONNECTIONS, seconds, f"-m{STREAMS}")
