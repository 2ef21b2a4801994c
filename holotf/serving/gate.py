"""What every request goes through: bounds on number, size and time, errors in TensorFlow Serving's shape, and the count."""

import asyncio
import json
import logging
import time

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holotf.serving.metrics import Metrics

GONE = 499  # nobody waits for the answer any more; TensorFlow Serving's code for a request that was cancelled
ALWAYS = ("/healthz", "/metrics")  # answered however many requests are in hand
_LOG = logging.getLogger("uvicorn.error")


def error(status: int, message: str, headers: dict | None = None) -> Response:
    """An error in TensorFlow Serving's shape: {"error": message}."""
    return Response(json.dumps({"error": message}), status, headers, "application/json")


class Gate:
    """ASGI middleware. The whole body is read before the application sees it; whoever goes away is not worked for any further.

    Args:
      app: the application.
      queue: requests in hand, at most; any more are answered 503 with Retry-After.
      body_bytes: of a request, at most; a larger one is answered 413.
      timeout_s: for a request, from its head to the end of its answer; then it is answered 504.
      metrics: that is told what happens.
    """

    def __init__(self, app: ASGIApp, queue: int, body_bytes: int, timeout_s: float, metrics: Metrics):
        self._app, self._queue, self._body_bytes, self._timeout_s, self._metrics = app, queue, body_bytes, timeout_s, metrics
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), GONE
        counted = scope["path"] not in ALWAYS
        self._count(counted)

        async def sent(message: Message) -> None:
            nonlocal status, counted
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):  # answered: its client may ask again before this coroutine has ended
                self._count(-counted)
                counted = False
            await send(message)

        try:
            refusal = await self._answered(scope, receive, sent)
            if refusal is not None and status == GONE:  # nothing was sent
                await refusal(scope, receive, sent)
        finally:
            self._count(-counted)
            # The route is the pattern, not the path: what clients make up is not counted one by one.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.request(route, status, time.monotonic() - started)

    def _count(self, change):
        self._in_hand += change
        self._metrics.in_hand(self._in_hand)

    async def _answered(self, scope, receive, send):
        """Has a request answered; gives what is to be answered in its place, if so."""
        if self._in_hand > self._queue:
            return error(503, f"{self._queue} requests are in hand: try again", {"Retry-After": "1", "Connection": "close"})
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._body(scope, receive)
                if body is None:
                    return None
                await self._until_gone(body, scope, receive, send)
        except TimeoutError:
            return error(504, f"Timed out after {self._timeout_s:g} s", {"Connection": "close"})
        except HTTPException as refused:
            return error(refused.status_code, refused.detail, refused.headers)
        except Exception as broke:
            _LOG.error("%s %s broke", scope["method"], scope["path"], exc_info=broke)
            return error(500, f"{type(broke).__name__}; the server's log says more")
        return None

    async def _body(self, scope, receive):
        """The body; None where the client went away."""
        limit = HTTPException(413, f"a body may have {self._body_bytes} bytes", {"Connection": "close"})
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told[:20]) > self._body_bytes:
            raise limit
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._body_bytes:
                raise limit
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _until_gone(self, body, scope, receive, send):
        """Runs the application with a body that was read, until it has answered or the client has gone."""
        asked = asyncio.Queue()
        asked.put_nowait({"type": "http.request", "body": body, "more_body": False})
        answer = asyncio.create_task(self._app(scope, asked.get, send))
        gone = asyncio.create_task(receive())  # after the body there is nothing but that
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
