"""A reply to a question: what a handler writes, and the calls under the task's claim.

`write` and `activity` never wait. A background loop sends what was written since the last answer as
one delta, and otherwise renews the task's lease. Text is held as UTF-16, in which the server counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

from .errors import DeckError
from .http import WITHOUT_END, Http, given, log, new_key, path_of, wait_for
from .resources import RequestList
from .rows import Message, Request, Row

#: Seconds between two calls that show the draft, and until the lease is renewed without one.
PACE = 0.05
RENEW_EVERY = 5.0
#: Bytes of a reply: 10,000 characters of four bytes. Steps of a reply that the server keeps.
MOST_BYTES = 40_000
MOST_STEPS = 50
#: Seconds after which a running step is sent again: a silent draft is dropped after 60.
SHOW_AGAIN = 20.0
#: How often in a row the server may have another length of the draft.
MOST_CONFLICTS = 5


def is_lost(error: DeckError) -> bool:
    """Returns whether another worker has the task, or whether it no longer exists."""
    return error.code in ("conflict", "not_found", "closed")


class Reply:
    """A reply that is being written. The handler's task is cancelled when the reply is cancelled."""

    def __init__(
        self, http: Http, citizen: str, task: Row, lease: int, changed: Callable[[], None]
    ) -> None:
        self._http = http
        self._path = path_of("inbox", citizen, "tasks", task.task)
        self._claim: str = task.claim
        self._lease = lease
        self._changed = changed
        self._mission: str = task.topic.split("/")[1]
        self._text = bytearray()
        self._sent = 0
        self._conflicts = 0
        self._asked_at: str = task.message.created_at
        self._steps: dict[str, Row] = {}
        self._unsent: dict[str, None] = {}
        self._shown_at = 0.0
        self._wake = asyncio.Event()
        # Parts of the draft are sent one at a time.
        self._sending = asyncio.Lock()
        self._asked: set[str] = set()
        #: requests without an answer yet: the task waits for them
        self.parked = 0
        self._saved: Message | None = None
        #: the reply is stored, or being stored: the answers of other calls mean nothing
        self._ending = False
        self._failure: DeckError | None = None
        #: the worker no longer has the task
        self.lost = False
        #: ID of the question, which is the ID of its task
        self.task: str = task.task
        #: 1 at first; higher if the task was released or its lease ended before
        self.attempt: int = task.attempt
        #: whether somebody has cancelled the reply or its question
        self.cancelled = False
        #: the request to people that ended while a former worker had the task
        self.request: Request | None = Request(task["request"]) if task.get("request") else None

    @property
    def text(self) -> str:
        """The whole text so far."""
        return self._text.decode("utf-16-le", "surrogatepass")

    def write(self, text: str) -> None:
        """Appends to the reply: followers of the chat see it grow.

        Raises the server's error if the draft was refused, `too_large` for a reply that is longer than
        a message, and `conflict` after `done`.
        """
        if self._failure:
            raise self._failure
        if self._saved:
            raise DeckError("conflict", "this reply was stored before")
        more = text.encode("utf-16-le", "surrogatepass")
        if len(self._text) + len(more) > MOST_BYTES:
            raise DeckError("too_large", "a reply has at most 10,000 characters")
        self._text += more
        self._wake.set()

    def activity(
        self, line: str, status: Literal["running", "done", "failed"] = "running"
    ) -> Step:
        """Shows followers a step: a line of what the citizen does, also before the first text.

        The same line again changes the step's status; so do the methods of the returned step. A line of
        more than 200 characters is shortened. The last 50 steps are stored with the reply.
        """
        same = (id for id, step in self._steps.items() if step.line == _shortened(line))
        id = next(same, None) or new_key()
        self.show_step(id, line, status)
        return Step(self, id)

    async def ask(
        self,
        *,
        kind: Literal["approve", "choose", "text"],
        title: str,
        body: str | None = None,
        options: Sequence[str] | None = None,
        expires_in: int | None = None,
    ) -> bool | str:
        """Asks people, and returns the answer: a boolean, one of the options, or a text.

        The task waits meanwhile, also across restarts: it takes none of the worker's concurrency, and
        no other worker gets it. A handler that starts again and asks the same gets the request that
        was made before, with its answer. Raises `expired` or `withdrawn` if the request ended without
        an answer. A request of a cancelled reply is withdrawn.
        """
        requests = RequestList(self._http, self._mission)
        asked = given(
            kind=kind,
            title=title,
            body=body,
            options=None if options is None else list(options),
            task=self.task,
            expires_in=expires_in,
        )
        self._park(1)
        request: Request | None = None
        try:
            if self.attempt > 1 or self.request:
                request = await self._asked_before(requests, asked)
            failures = 0
            while request is None:
                try:
                    request = await requests.make(**asked)
                except DeckError as error:
                    if not error.passing:
                        raise
                    # It may have been made.
                    await self._http.wait_to_retry(error, failures)
                    failures += 1
                    request = await self._asked_before(requests, asked)
            self._asked.add(request.id)
            while request.state == "open":
                path = path_of("missions", self._mission, "requests", request.id)
                query = {"wait": self._http.longest_wait}
                begun = asyncio.get_running_loop().time()
                request = Request(await self._http.call("GET", path, query=query, tries=WITHOUT_END))
                if request.state == "open" and asyncio.get_running_loop().time() - begun < 1:
                    # A server that stops answers at once.
                    await self._http.wait_to_retry(None, 2)
        except asyncio.CancelledError:
            if self.cancelled and request:
                await _quietly(requests.withdraw(request.id))
            raise
        finally:
            self._park(-1)
        if request.state == "answered" and request.answer is not None:
            return request.answer
        raise DeckError(request.state, f"the request was not answered: {title}")

    async def done(
        self,
        message: str | None = None,
        *,
        code_blocks: Sequence[dict[str, Any]] | None = None,
        usage: dict[str, Any] | None = None,
    ) -> Message:
        """Stores the reply and ends the task; `message` replaces what was written.

        A handler need not call it: what it wrote, or the text that it returns, is stored when it
        returns. `usage`: a JSON object of up to 4 KiB that is stored with the message.
        """
        if self._saved:
            raise DeckError("conflict", "this reply was stored before")
        body = given(
            message=self.text if message is None else message,
            code_blocks=None if code_blocks is None else list(code_blocks),
            usage=usage,
        )
        self._ending = True
        try:
            # The steps are stored with the message, also one that is on its way.
            while not self._failure:
                async with self._sending:
                    if not self._unsent:
                        break
                await self._show()
            saved = self._saved = Message(await self._call("reply", **body))
        finally:
            self._ending = self._saved is not None
        return saved

    def show_step(self, id: str, line: str | None, status: str) -> None:
        """Adds a step or changes it; without `line` it keeps its own."""
        if line is None:
            line = self._steps[id].line if id in self._steps else None
        if not line:
            raise DeckError("bad_request", "line must have 1 to 200 characters")
        step = Row(id=id, line=_shortened(line), status=status)
        if self._steps.get(id) == step:
            return
        self._steps[id] = step
        self._unsent[id] = None
        if len(self._steps) > MOST_STEPS:
            oldest = next(iter(self._steps))
            del self._steps[oldest]
            self._unsent.pop(oldest, None)
        self._wake.set()

    # What the worker needs --------------------------------------------------------------------------

    @property
    def saved(self) -> Message | None:
        """The stored message."""
        return self._saved

    async def finish(self, returned: object) -> None:
        """Ends the task: with the returned text, with what was written, or without a reply."""
        if self._saved:
            return
        if self._failure:
            raise self._failure
        if not isinstance(returned, str | None):
            raise TypeError("a handler must return a text or nothing")
        text = returned or self.text
        if text:
            await self.done(text)
        else:
            await self._call("done")

    async def release(self, after: float) -> None:
        """Returns the task to the queue."""
        await self._call("release", after=after)

    async def keep(self, stop: Callable[[], None]) -> None:
        """Shows the draft as it grows and renews the lease; calls `stop` once the reply must end."""
        while not self.lost:
            await wait_for(self._wake, min(RENEW_EVERY, self._lease / 3))
            self._wake.clear()
            if self._ending:
                await asyncio.sleep(PACE)
                continue
            try:
                cancelled = await self._show()
            except DeckError as error:
                if self._ending:
                    continue
                self._failure = self._failure or error
                if is_lost(error):
                    self.lost = True
                    stop()
                else:
                    await self._http.wait_to_retry(error, 0)
            else:
                if cancelled and not self.cancelled:
                    self.cancelled = True
                    stop()
            await asyncio.sleep(PACE)

    async def _show(self) -> bool:
        """Sends what is new, or renews the lease. Returns whether the reply was cancelled."""
        async with self._sending:
            return await self._send_news()

    async def _send_news(self) -> bool:
        parts: dict[str, Any] = {}
        now = asyncio.get_running_loop().time()
        if not self._unsent and now - self._shown_at > SHOW_AGAIN:
            # A sign of life for a draft that does not grow.
            running = [id for id, step in self._steps.items() if step.status == "running"]
            self._unsent = dict.fromkeys(running[-1:])
        id = next(iter(self._unsent), None)
        if id is not None:
            del self._unsent[id]
            parts["activity"] = self._steps[id]
        end = self._end()
        if end > self._sent:
            parts["offset"] = self._sent
            parts["delta"] = self._text[self._sent * 2 : end * 2].decode("utf-16-le", "surrogatepass")
        if self._failure or not parts:
            answer = await self._call("renew", lease=self._lease)
            return bool(answer.cancelled)
        self._shown_at = now
        if self._unsent:
            self._wake.set()
        try:
            answer = await self._call("draft", **parts)
        except DeckError as error:
            self._conflicts += 1
            if error.code != "conflict" or error.offset is None or self._conflicts > MOST_CONFLICTS:
                raise
            # The delta was saved but its answer was lost, or the server has lost the draft.
            self._sent = error.offset if error.offset <= end else 0
            self._unsent = dict.fromkeys(self._steps)
            self._wake.set()
            return False
        self._conflicts = 0
        if "delta" in parts:
            self._sent = end
        return bool(answer.cancelled)

    def _end(self) -> int:
        """Returns the length that can be sent: never half of a surrogate pair."""
        return len(self._text) // 2 - (0xD8 <= self._text[-1] < 0xDC if self._text else 0)

    async def _call(self, verb: str, **body: Any) -> Any:
        """Sends a call under the claim until it is answered: each may be sent twice."""
        path = f"{self._path}/{verb}"
        body["claim"] = self._claim
        return await self._http.call("POST", path, body=body, again=True, tries=WITHOUT_END)

    async def _asked_before(self, requests: RequestList, asked: dict[str, Any]) -> Request | None:
        """Returns the oldest request of this task that asks the same and is not in use here."""
        same = ("kind", "title", "body", "options", "task")
        found: Request | None = None
        cursor: str | None = None
        while True:
            page = await requests.list(limit=500, cursor=cursor)
            for request in page.requests:
                if request.created_at < self._asked_at:
                    return found
                if request.id not in self._asked and request.state in ("open", "answered"):
                    if all(request.get(name) == asked.get(name) for name in same):
                        found = request
            cursor = page.next
            if cursor is None:
                return found

    def _park(self, by: int) -> None:
        self.parked += by
        self._changed()


class Step:
    """A step of a reply. The calls without a line keep the line."""

    def __init__(self, reply: Reply, id: str) -> None:
        self._reply = reply
        self._id = id

    def update(self, line: str) -> None:
        """Changes the line; the step continues."""
        self._reply.show_step(self._id, line, "running")

    def done(self, line: str | None = None) -> None:
        """The step has succeeded."""
        self._reply.show_step(self._id, line, "done")

    def failed(self, line: str | None = None) -> None:
        """The step has failed."""
        self._reply.show_step(self._id, line, "failed")


def _shortened(line: str) -> str:
    return line if len(line) <= 200 else f"{line[:199]}…"


async def _quietly(call: Any) -> None:
    """Awaits a call that may fail."""
    try:
        await asyncio.wait_for(call, 5)
    except (DeckError, asyncio.TimeoutError) as error:
        log.debug("ignored: %s", error)
