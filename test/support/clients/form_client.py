# SPDX-License-Identifier: Apache-2.0
# Forms by Python's requests: form_client.py PORT. Nothing is printed when all is well.
import sys

import requests

url = "http://127.0.0.1:%s/" % sys.argv[1]


def post(expected, **arguments):
    answer = requests.post(url, **arguments)
    assert (answer.status_code, answer.text) == (200, expected), (answer.status_code, answer.text, expected)


post('field a "x"\nfile f "ä.txt" "text/plain" 5\n', data={"a": "x"}, files={"f": ("ä.txt", b"hello", "text/plain")})
post('file f "a\\"b" nil 0\n', files={"f": ('a"b', b"")})
post('field a "1"\nfield a "2"\nfile f "f" nil 300000\n', data={"a": ["1", "2"]}, files={"f": ("f", b"\r\n-" * 100000)})
post('form a "x y"\nform ä "&=+%"\n', data={"a": "x y", "ä": "&=+%"})
