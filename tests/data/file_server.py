"""A web server on this machine, with ranges or without, that can fail."""

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """What a server does, and what was asked of it."""

    url: str = ""
    has_ranges: bool = True
    failures: int = 0
    """How many of the next requests of content fail."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths, and ranges of bytes."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The files of a folder behind a URL."""
    served = Served()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append((self.path, asked))
            file = Path(self.translate_path(self.path))
            if served.failures:
                served.failures -= 1
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            elif asked is not None and served.has_ranges and file.is_file():
                self._send_part(file.read_bytes(), asked)
            else:
                with contextlib.suppress(ConnectionError):  # the client has seen enough
                    super().do_GET()

        def _send_part(self, content: bytes, asked: str) -> None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
            assert match is not None, asked
            first, last = int(match[1]), min(int(match[2]), len(content) - 1)
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            self.wfile.write(content[first : last + 1])

        def end_headers(self) -> None:
            if served.has_ranges:
                self.send_header("Accept-Ranges", "bytes")
            super().end_headers()

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
