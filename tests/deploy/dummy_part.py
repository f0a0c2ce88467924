"""Stands where a part's process would stand: answers `/readyz` on the port it is given, until SIGTERM."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from signal import SIGTERM, signal
from types import FrameType


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal(SIGTERM, leave)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
