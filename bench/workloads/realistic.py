# SPDX-License-Identifier: Apache-2.0
"""A browser's request with 20 header fields, of which the handler looks for one and answers with four, 64 connections."""

import rates
import tools

CONNECTIONS = 64
FIELDS = [  # 19, and Host
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "DNT: 1",
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Origin: http://bench.example.com",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-User: ?1",
    "Sec-Fetch-Dest: document",
    "Referer: http://bench.example.com/articles/2026/how-long-is-a-piece-of-string?page=2",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes; visited=2026-01-02T03:04:05Z",
    "X-Forwarded-For: 192.0.2.60",
]


def measure(bench):
    return rates.table(bench, f"A browser's request: 20 header fields ({CONNECTIONS} connections)", {"": generate})


def generate(server, seconds):
    return tools.wrk(server.url("/language?from=bench"), CONNECTIONS, seconds, headers=FIELDS)
