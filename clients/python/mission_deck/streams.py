"""Streams over HTTP: a chat's events, and all its messages. Both resume after a lost connection.

They are read only as fast as the caller reads: a slow caller slows the server and uses no memory here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import httpx

from .errors import DeckError
from .http import TRIES, Http
from .rows import Event, Message, decode

T = TypeVar("T")

#: Bytes of one line. The largest row that a server sends is a quarter of it.
MOST_BYTES = 16 * 1024 * 1024


async def read_lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yields complete lines; text after the last line end is dropped.

    (httpx's own lines also end at U+2028 and U+0085, which JSON may contain.)
    """
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode()
        if len(rest) > MOST_BYTES:
            raise DeckError("too_large", f"a line has more than {MOST_BYTES} bytes")


class Pipe(Generic[T]):
    """One item on its way from a reading task to the caller.

    `closed`: nobody wants more. (The reading task is cancelled too, but httpx may answer a cancel with
    another error.)
    """

    def __init__(self) -> None:
        self.closed = False
        self.items: list[T] = []
        self.changed = asyncio.Event()

    async def put(self, item: T) -> None:
        """Waits until the item before was taken."""
        while self.items:
            self.changed.clear()
            await self.changed.wait()
        self.items.append(item)
        self.changed.set()


class Stream(AsyncIterator[T]):
    """Items that a task reads while the stream is in use.

    The task is not the caller's: a cancelled step loses no item, and a loop that is left ends it.
    """

    def __init__(
        self, http: Http, read: Callable[[Pipe[T]], Coroutine[Any, Any, None]]
    ) -> None:
        self._http = http
        self._read = read
        self._pipe: Pipe[T] = Pipe()
        self._task: asyncio.Task[None] | None = None

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        pipe = self._pipe
        if self._task is None:
            self._task = self._http.start(self._read(pipe))
            self._task.add_done_callback(lambda _: pipe.changed.set())
        while not pipe.items:
            if self._task.done():
                if not self._task.cancelled():
                    self._task.result()
                raise StopAsyncIteration
            pipe.changed.clear()
            await pipe.changed.wait()
        pipe.changed.set()
        return pipe.items.pop()

    async def aclose(self) -> None:
        """Ends the stream and its connection."""
        self._pipe.closed = True
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    def __del__(self) -> None:
        self._pipe.closed = True
        if self._task and not self._task.done():
            try:
                self._task.cancel()
            except RuntimeError:
                pass  # the event loop has ended


class Feed(Stream[Event]):
    """A chat's events: each once, in order, across reconnects.

    `seq` and `epoch` are the place after the last event: another process can resume there.
    """

    def __init__(self, http: Http, path: str, after: int | None, epoch: str | None) -> None:
        place = Place(after, epoch)
        super().__init__(http, lambda pipe: read_events(http, path, place, pipe))
        self._place = place
        self._last = after

    @property
    def seq(self) -> int | None:
        """Seq of the last event; None until the start is known."""
        return self._place.start if self._last is None else self._last

    @property
    def epoch(self) -> str | None:
        """Epoch of `seq`; None until the first connect."""
        return self._place.epoch

    async def __anext__(self) -> Event:
        event = await super().__anext__()
        self._last = event.seq
        return event


class Place:
    """Where a feed stands in its chat."""

    def __init__(self, after: int | None, epoch: str | None) -> None:
        self.start = self.seq = after
        self.epoch = epoch


async def read_events(
    http: Http, path: str, place: Place, pipe: Pipe[Event]
) -> None:
    """Reads events until the deck is closed or the server refuses the chat.

    Each connect, the first one too, asks for what follows `place`.
    """
    replay = place.seq is not None
    failures = 0
    while not pipe.closed:
        error: DeckError | None = None
        least = 0.0
        try:
            if place.seq is None:
                page = await http.call("GET", path, query={"limit": 1})
                place.start = place.seq = page.last_seq
                place.epoch = page.epoch
            async with http.open(
                "GET",
                path,
                query={"after": place.seq, "epoch": place.epoch},
                headers={"accept": "text/event-stream"},
            ) as response:
                place.epoch = response.headers.get("deck-epoch", place.epoch)
                fields: dict[str, str] = {}
                async with aclosing(read_lines(response)) as lines:
                    async for line in lines:
                        if line:
                            name, _, value = line.partition(":")
                            fields[name] = value.removeprefix(" ")
                            continue
                        if "retry" in fields:
                            least = float(fields["retry"]) / 1000
                        if "data" in fields:
                            failures = 0
                            place.seq = int(fields["id"])
                            await pipe.put(_event(place.seq, fields["event"], decode(fields["data"])))
                        fields = {}
        except DeckError as caught:
            error = caught
        if error and error.code == "conflict" and error.epoch is not None:
            # A caller that asked for earlier events gets the chat from its start.
            head = error.seq or 0
            place.seq, place.epoch = 0 if replay else head, error.epoch
            await pipe.put(Event(event="reset", seq=head, epoch=error.epoch))
            continue
        if error and not error.passing:
            raise error
        await http.pause(least)
        await http.wait_to_retry(error, failures)
        failures += 1


def _event(seq: int, name: str, data: Any) -> Event:
    return Event(seq=seq, event=name, data=Message(data) if name == "message.created" else data)


async def read_messages(
    http: Http, path: str, query: dict[str, Any], pipe: Pipe[Message]
) -> None:
    """Reads every message that fits, up to the chat's latest seq at the first request."""
    epoch: str | None = None
    failures = 0
    while not pipe.closed:
        try:
            async with http.open(
                "GET", path, query=query, headers={"accept": "application/x-ndjson"}
            ) as response:
                now = response.headers.get("deck-epoch")
                if epoch is not None and now != epoch:
                    raise DeckError("conflict", "the database was restored or replaced: start again")
                epoch = now
                # A resumed request excludes messages that are newer than the first request.
                end = int(response.headers["deck-last-seq"]) + 1
                query["before"] = min(query.get("before") or end, end)
                async with aclosing(read_lines(response)) as lines:
                    async for line in lines:
                        message = Message(decode(line))
                        query["after"] = message.seq
                        failures = 0
                        await pipe.put(message)
                return
        except DeckError as error:
            if failures >= TRIES or not error.passing:
                raise
            await http.wait_to_retry(error, failures)
        failures += 1
