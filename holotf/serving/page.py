"""The viewer: the page at `/` and its files, which ask no other host than the server that the address names."""

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).with_name("web")


def routes() -> Iterator[BaseRoute]:
    """The page, and the folder of its files; nothing outside of that is read."""
    yield Route("/", _page)
    yield Mount("/web", StaticFiles(directory=WEB))


async def _page(request: Request) -> Response:
    named = (_origin(request.query_params.get(key, "")) for key in ("server", "card"))
    return FileResponse(
        WEB / "index.html", headers={"Content-Security-Policy": policy(named), "Cache-Control": "no-cache"} | _HEADERS
    )


_HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def policy(origins: Iterator[str | None]) -> str:
    """The page's Content-Security-Policy: everything from where it came itself, answers also from these origins."""
    answers = " ".join(["'self'", *filter(None, origins)])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {answers}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origin(address):
    """scheme://host[:port] of an address; None where it is none, so that nothing else gets into the header."""
    try:
        told = urllib.parse.urlsplit(address)
        host, port = told.hostname or "", told.port
    except ValueError:
        return None
    plain = host.replace("-", "").replace(".", "").replace(":", "")
    if told.scheme not in ("http", "https") or not (plain.isascii() and plain.isalnum()):
        return None
    return f"{told.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
