"""A citizen's chat in a mission."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Literal

from .errors import DeckError
from .http import WITHOUT_END, Http, given, new_key, path_of
from .rows import History, Message, Question, Questions
from .streams import Feed, Stream, read_messages

#: Bounds of the queue of unsent messages of a deck.
MOST_MESSAGES = 1000
MOST_BYTES = 8 * 1024 * 1024


class Outbox:
    """Unsent messages. Each chat sends one at a time, in the order of the calls."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._lanes: dict[str, asyncio.Lock] = {}
        self._messages = 0
        self._bytes = 0

    async def send(self, path: str, body: dict[str, Any]) -> Message:
        """Sends a message until it is answered: its key keeps it from being stored twice."""
        size = len(json.dumps(body))
        if self._messages >= MOST_MESSAGES or self._bytes + size > MOST_BYTES:
            raise DeckError("overloaded", "the queue of unsent messages is full", key=body["key"])
        lane = self._lanes.setdefault(path, asyncio.Lock())
        self._messages += 1
        self._bytes += size
        try:
            async with lane:
                answer = await self._http.call(
                    "POST", path, body=body, again=True, tries=WITHOUT_END
                )
                return Message(answer)
        except DeckError as error:
            error.key = body["key"]
            raise
        finally:
            self._messages -= 1
            self._bytes -= size
            if not lane.locked():
                self._lanes.pop(path, None)


class Chat:
    """Made by `deck.chat(mission, citizen)`."""

    def __init__(self, http: Http, outbox: Outbox, mission: str | int, citizen: str) -> None:
        self._http = http
        self._outbox = outbox
        self._path = path_of("missions", mission, "chat", citizen)

    def follow(self, after: int | None = None, epoch: str | None = None) -> Feed:
        """Yields all events after `after`, then live events, until the deck is closed.

        Each event comes once and in order, across reconnects. Without `after` it begins with the next
        event. If seqs became invalid (a restored database, or an `after` beyond the latest seq), the
        event `reset` has the new `seq` and `epoch`: discard your copy. The events that follow begin
        with the chat's first one or, without `after`, with the next one.

        Raises `not_found` when the chat can't be seen any more.
        """
        return Feed(self._http, self._path, after, epoch)

    async def send(
        self,
        message: str,
        *,
        key: str | None = None,
        code_blocks: Sequence[dict[str, Any]] | None = None,
        reply_to: str | None = None,
    ) -> Message:
        """Stores a message once, and returns it once it is committed.

        It is sent until the server has answered, also across restarts: use `asyncio.wait_for` to
        give up. `key` is an idempotency key of your own; `reply_to` the ID of the message of the same
        chat that this one answers.
        """
        body = given(
            message=message,
            key=new_key() if key is None else key,
            code_blocks=None if code_blocks is None else list(code_blocks),
            reply_to=reply_to,
        )
        return await self._outbox.send(self._path, body)

    async def history(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        q: str | None = None,
        language: str | None = None,
        sender: Literal["user", "citizen"] | None = None,
        since: str | None = None,
        until: str | None = None,
        at: str | None = None,
        order: Literal["seq", "rank"] | None = None,
        highlight: bool | None = None,
    ) -> History:
        """Returns a page of messages by ascending seq: those after `after`, or the newest.

        `at`: the state at a time (RFC 3339). With `q`, `order="rank"` returns the best matches first,
        and `highlight=True` gives each message a `snippet`.
        """
        query = {
            "after": after,
            "before": before,
            "limit": limit,
            "q": q,
            "language": language,
            "sender": sender,
            "since": since,
            "until": until,
            "at": at,
            "order": order,
            "highlight": highlight,
        }
        page = History(await self._http.call("GET", self._path, query=query))
        page["messages"] = [Message(row) for row in page.messages]
        return page

    def messages(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        q: str | None = None,
        language: str | None = None,
        sender: Literal["user", "citizen"] | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> Stream[Message]:
        """Yields every message that fits, oldest first, up to the latest seq at the start."""
        query = {
            "after": after,
            "before": before,
            "q": q,
            "language": language,
            "sender": sender,
            "since": since,
            "until": until,
        }
        http, path = self._http, self._path
        return Stream(http, lambda pipe: read_messages(http, path, query, pipe))

    async def message(self, id: str) -> Message:
        """Returns a message by its ID."""
        return Message(await self._http.call("GET", f"{self._path}/messages/{path_of(id)}"))

    async def questions(
        self,
        *,
        state: Literal["waiting", "working", "answered", "closed", "failed"] | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> Questions:
        """Returns a page of the users' questions and what became of them, newest last."""
        query = {"state": state, "before": before, "limit": limit}
        page = Questions(await self._http.call("GET", f"{self._path}/questions", query=query))
        page["questions"] = [Question(row) for row in page.questions]
        return page

    async def retry(self, question: str) -> Question:
        """Lets a failed question wait again, from attempt 0."""
        return await self._change(question, "retry")

    async def cancel(self, question: str) -> Question:
        """Closes a waiting question. The worker of a working one is asked to stop."""
        return await self._change(question, "cancel")

    async def _change(self, question: str, verb: str) -> Question:
        path = f"{self._path}/questions/{path_of(question, verb)}"
        return Question(await self._http.call("POST", path))

    async def redact(self, message: str, reason: str | None = None) -> Message:
        """Removes the words of a message for good: its author, or a user for a reply to its question."""
        path = f"{self._path}/messages/{path_of(message, 'redact')}"
        answer = await self._http.call("POST", path, body=given(reason=reason), again=True)
        return Message(answer)

    async def clear(self) -> None:
        """Removes all messages (admin)."""
        await self._http.call("DELETE", self._path)
