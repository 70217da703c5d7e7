# SPDX-License-Identifier: Apache-2.0
"""The host's end of a channel for descriptors (PROTOCOL.md, section 3.6)."""

import os
import shutil
import socket
import tempfile

from . import mp
from .program import Program

FILE_OF_STREAM = 0
FILE_OF_ALL = 3


class HandingProgram(Program):
    """sparx_port, with a channel."""

    def __init__(self, path, options=None, **how):
        self.folder = tempfile.mkdtemp(prefix="sparx-")
        name = os.path.join(self.folder, "s")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel, self.last_token = None, 0
        try:
            listener.bind(name)
            listener.listen(1)
            super().__init__(path, {"descriptors": name, **(options or {})}, **how)
            if "descriptors" in self.ready["features"]:
                self.channel = listener.accept()[0]
        finally:
            listener.close()
            shutil.rmtree(self.folder)

    def hand(self, stream, file, token=None, use=FILE_OF_STREAM):
        """Hands over an open file for a stream; returns the token by which FILE names it."""
        if token is None:
            token = self.last_token = self.last_token + 1
        socket.send_fds(self.channel, [mp.encode([use, token, stream])], [file if isinstance(file, int) else file.fileno()])
        return token

    def stop(self):
        if self.channel:
            self.channel.close()
        return super().stop()
