# SPDX-License-Identifier: Apache-2.0
"""The standard library's own server, to compare with the host of examples/python: hosts.py PORT"""

import http.server
import signal
import sys


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for head and body

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b"Hello, world!\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
