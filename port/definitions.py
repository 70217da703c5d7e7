# SPDX-License-Identifier: Apache-2.0
"""The lists of port/src (messages.def, names.def, methods.def, ws/options.def), for what is written in Python: tests and scripts."""

import collections
import pathlib
import re

SRC = pathlib.Path(__file__).resolve().parent / "src"

# A letter for each type of a field, as in message_def.format.
LETTERS = {
    "STREAM": "s", "STREAM_OR_NIL": "S", "UINT": "u", "UINT_OR_NIL": "U", "BYTES": "b", "TEXT": "t",
    "FIELDS": "f", "FIELDS_OR_NIL": "F", "MAP": "m", "ARRAY_OR_NIL": "A",
}  # fmt: skip

Message = collections.namedtuple("Message", "name kind sender fields letters")


def _lines(path, pattern):
    return re.findall(pattern, (SRC / path).read_text(), re.M)


def _message(name, kind, sender, text):
    fields = re.findall(r"(\w+)\((\w+)\)", text)
    return Message(name, int(kind), sender, tuple(field for _, field in fields), "".join(LETTERS[type] for type, _ in fields))


MESSAGES = [_message(*line) for line in _lines("frames/messages.def", r"^MESSAGE\((\w+), \w+, (\d+), (HOST|PORT), (.*)\)$")]
NAMES = [text for _, text in sorted((int(index), text) for index, text in _lines("frames/names.def", r'^NAME\(\w+, (\d+), "([^"]+)"\)$'))]
METHODS = [name for _, name in sorted((int(index), name) for name, index in _lines("frames/methods.def", r"^METHOD\((\w+), (\d+)\)$"))]

# {"HELLO": 0, ...}
KINDS = {message.name: message.kind for message in MESSAGES}


def sent_by(sender):
    """What "HOST", or "PORT", sends: {kind: (name, letters)}."""
    return {message.kind: (message.name, message.letters) for message in MESSAGES if message.sender == sender}
