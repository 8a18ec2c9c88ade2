"""Requests over HTTP: tokens, errors, and which requests are tried again."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, Union
from urllib.parse import quote

import httpx

from .errors import DeckError
from .rows import decode

log = logging.getLogger("mission_deck")

#: A JSON Web Token, or a function that returns one: it is called again when the server refuses one.
Token = Union[str, Callable[[], Union[str, Awaitable[str]]]]

T = TypeVar("T")

#: How often a request is tried again; a request that must not be lost is tried without end.
TRIES = 5
WITHOUT_END = 1 << 62


def backoff(tries: int, most: float) -> float:
    """Returns random seconds to wait: exponential backoff with full jitter."""
    return random.random() * min(most, 0.3 * 2 ** min(tries, 10))


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, and returns whether it is set.

    (Before Python 3.12 `asyncio.wait_for` ignores a cancel that comes with the event.)
    """
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiter}, timeout=seconds)
    finally:
        waiter.cancel()
    return event.is_set()


def path_of(*parts: str | int) -> str:
    """Joins path segments, each percent-encoded."""
    try:
        return "/".join(quote(str(part), safe="") for part in parts)
    except UnicodeEncodeError:
        raise DeckError("bad_request", "a name in the path is not valid Unicode") from None


def new_key() -> str:
    """Returns a random idempotency key."""
    return uuid.uuid4().hex


def given(**members: Any) -> dict[str, Any]:
    """Returns the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


class Tokens:
    """The token in use. Calls that are refused at the same time share one new token."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._held: str | None = None
        self._lock = asyncio.Lock()

    async def get(self, refused: str | None = None) -> str:
        """Returns the token; a new one if it is the one that the server has refused."""
        async with self._lock:
            if self._held is None or self._held == refused:
                if refused is not None and isinstance(self._token, str):
                    raise DeckError("unauthorized", "the server refused the token", 401)
                self._held = await self._ask()
            return self._held

    async def _ask(self) -> str:
        given: object = self._token
        if callable(self._token):
            try:
                given = self._token()
                if inspect.isawaitable(given):
                    given = await given
            except Exception as error:
                log.warning("the token function failed", exc_info=error)
                raise DeckError("unavailable", "the token function failed") from error
        if not isinstance(given, str) or not re.fullmatch(r"[\x21-\x7e]+", given):
            raise DeckError("unauthorized", "the token is missing or malformed")
        return given


class Http:
    """The connection to one server."""

    def __init__(self, url: str, token: Token, patience: float) -> None:
        self._base = url.rstrip("/")
        if not re.match(r"https?://[^/]", self._base):
            raise DeckError("bad_request", "url must be an origin: http(s)://…")
        if patience < 2:
            raise DeckError("bad_request", "patience must be at least 2 seconds")
        self._tokens = Tokens(token)
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        #: seconds that the server may hold a request open
        self.longest_wait = int(min(50, patience / 2))
        timeout = httpx.Timeout(patience, connect=min(10.0, patience), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        # (Without TLS there are no certificates to load.)
        tls = self._base.startswith("https:")
        self._client = httpx.AsyncClient(limits=limits, timeout=timeout, verify=tls)

    async def close(self) -> None:
        """Ends all requests with `closed`, and all streams."""
        self._closing.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task that ends with the deck."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def pause(self, seconds: float) -> None:
        """Sleeps. Raises `closed` at once if the deck is closed."""
        if await wait_for(self._closing, seconds):
            raise DeckError("closed", "the deck was closed")

    async def wait_to_retry(self, error: DeckError | None, tries: int) -> None:
        """Waits before another try: as long as the server asks for, and a random time."""
        least = (error.retry_after if error else None) or 0
        if error and error.status is not None:
            most = 3.0
        elif error and isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout)):
            most = 15.0
        else:
            most = 1.2  # the connection was cut
        await self.pause(least + backoff(tries, most))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the errors of httpx into a DeckError."""
        try:
            yield
        except DeckError:
            raise
        except Exception as error:
            if self._closing.is_set():
                raise DeckError("closed", "the deck was closed") from None
            if isinstance(error, httpx.RequestError):
                raise DeckError("unavailable", "the server cannot be reached") from error
            raise

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        fields = dict(headers or {})
        content: bytes | None = None
        if isinstance(body, str):
            fields["content-type"] = "text/plain"
            content = body.encode("utf-8", "surrogatepass")
        elif body is not None:
            # The server refuses text that is not valid Unicode; it is never altered here.
            fields["content-type"] = "application/json"
            text = json.dumps(body, ensure_ascii=False, allow_nan=False)
            content = text.encode("utf-8", "surrogatepass")
        params = given(**(query or {}))
        try:
            return self._client.build_request(
                method,
                f"{self._base}/api/{path}",
                params=params or None,
                content=content,
                headers=fields,
            )
        except UnicodeEncodeError:
            raise DeckError("bad_request", "a parameter is not valid Unicode") from None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Sends a request once, or twice if the first token is refused. The body is not read yet.

        Raises a DeckError if the server refuses it or cannot be reached, also from within the block.
        """
        request = self._request(method, path, query, body, headers)
        refused: str | None = None
        while True:
            if self._closing.is_set():
                raise DeckError("closed", "the deck was closed")
            token = await self._tokens.get(refused)
            request.headers["authorization"] = f"Bearer {token}"
            with self._errors():
                response = await self._client.send(request, stream=True)
                try:
                    if response.status_code == 401 and refused is None:
                        refused = token
                        continue
                    if not response.is_success:
                        raise _refusal(response, await response.aread())
                    yield response
                    return
                finally:
                    await response.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
        tries: int = TRIES,
    ) -> Any:
        """Sends a request and returns the answer: decoded JSON, text, or None.

        `again`: whether it may be made twice; if left out, GET and PATCH may. Such a request is tried
        again while the server is unavailable. `rate_limited` is always tried again.
        """
        if again is None:
            again = method in ("GET", "PATCH")
        failures = 0
        while True:
            try:
                # In a task of its own: httpx may answer a cancel with another error.
                once = self.start(self._once(method, path, query, body, headers))
                try:
                    await asyncio.wait({once})
                except asyncio.CancelledError:
                    once.cancel()
                    raise
                if once.cancelled():
                    raise DeckError("closed", "the deck was closed")
                return once.result()
            except DeckError as error:
                if failures >= tries or not (error.code == "rate_limited" or again and error.passing):
                    raise
                await self.wait_to_retry(error, failures)
            failures += 1

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> Any:
        async with self.open(method, path, query=query, body=body, headers=headers) as response:
            content = await response.aread()
            if response.headers.get("content-type", "").startswith("application/json"):
                return decode(content)
            return content.decode() if content else None


def _refusal(response: httpx.Response, content: bytes) -> DeckError:
    """Returns the error of a response. A proxy's response has no code."""
    status = response.status_code
    said: Any = None
    try:
        said = json.loads(content)
    except ValueError:
        pass
    if not isinstance(said, dict) or not isinstance(said.get("code"), str):
        code = "bad_request" if status < 500 else "unavailable"
        said = {"code": code, "detail": f"status {status}"}
    try:
        retry_after = float(said.get("retry_after") or response.headers.get("retry-after") or 0)
    except ValueError:
        retry_after = 0.0
    return DeckError(
        said["code"],
        str(said.get("detail")),
        status,
        retry_after=retry_after or None,
        **{name: said.get(name) for name in ("error_id", "seq", "epoch", "offset")},
    )
