"""A server on loopback that passes requests on, and loses some of the answers: the requests have
taken effect, and whoever asked finds the line closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["Lossy", "lossy_proxy"]

_OF_THE_LINE = {"connection", "content-length", "transfer-encoding"}


@dataclass
class Lossy:
    """A proxy that loses answers.

    Args:
        address: where it listens.
        loses: which answers it loses, by the method, the path and the number of the request.
        requests: what was asked, and whether the answer was lost.
    """

    address: str
    loses: Callable[[str, str, int], bool]
    requests: list[tuple[str, str, bool]] = field(default_factory=list)


@contextmanager
def lossy_proxy(server: str, loses: Callable[[str, str, int], bool]) -> Iterator[Lossy]:
    """A proxy in front of a server, which loses answers."""
    place, lock = urlsplit(server).netloc, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            line = HTTPConnection(place, timeout=60)
            line.request(self.command, self.path, body, dict(self.headers))
            answer = line.getresponse()
            content = answer.read()
            line.close()
            with lock:
                lost = proxy.loses(self.command, self.path, len(proxy.requests) + 1)
                proxy.requests.append((self.command, self.path, lost))
            if lost:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_LINE:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815  so called

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        proxy = Lossy(f"http://127.0.0.1:{listening.server_address[1]}", loses)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            listening.shutdown()
