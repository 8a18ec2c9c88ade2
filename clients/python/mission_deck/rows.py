"""What the server sends. A row is a dict whose members are attributes, too.

`message.author` and `message["author"]` are the same. Members that a newer server adds are kept. A
documented member that the server left out is None as an attribute.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple


class Row(dict[str, Any]):
    """A JSON object."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in type(self).__annotations__:
            return None
        raise AttributeError(f"{type(self).__name__} has no member {name!r}")


def decode(text: str | bytes) -> Any:
    """Decodes JSON; each object becomes a Row."""
    return json.loads(text, object_hook=Row)


class CodeBlock(Row):
    language: str | None
    code: str


class Activity(Row):
    """What the writer of a reply did, and for how long."""

    line: str
    status: Literal["running", "done", "failed"]
    ms: int


class Message(Row):
    """A chat message."""

    id: str
    mission_id: str
    citizen: str
    sender: Literal["user", "citizen"]
    author: str | None
    message: str
    code_blocks: list[CodeBlock] | None
    created_at: str
    seq: int
    key: str | None
    in_reply_to: str | None
    activity: list[Activity] | None
    usage: Row | None
    redacted: Row | None
    snippet: Any


class Event(Row):
    """An event of a chat.

    `message.created` has a Message as data. `reset` has an epoch and no data: old seqs mean nothing
    any more, so discard your copy.
    """

    seq: int
    event: str
    data: Any
    epoch: str | None


class History(Row):
    """A page of messages, by ascending seq."""

    messages: list[Message]
    last_seq: int
    has_more: bool
    epoch: str


class Question(Row):
    """A user's message to a citizen, and what became of it."""

    id: str
    seq: int
    state: Literal["waiting", "working", "answered", "closed", "failed"]
    attempt: int
    since: str
    until: str | None
    answer: Row | None


class Questions(Row):
    """A page of questions, newest last."""

    questions: list[Question]
    listening: bool
    has_more: bool


class Request(Row):
    """A citizen's request to people."""

    id: str
    mission_id: str
    citizen: str
    kind: Literal["approve", "choose", "text"]
    title: str
    body: str | None
    options: list[str] | None
    task: str | None
    expires_at: str
    state: Literal["open", "answered", "expired", "withdrawn"]
    answer: bool | str | None
    answered_by: str | None
    answered_at: str | None
    created_at: str
    seq: int


class Requests(Row):
    """A page of requests, newest first."""

    requests: list[Request]
    next: str | None


class Mission(Row):
    """A piece of client work."""

    id: str
    number: int
    title: str
    client: str
    budget: int
    deadline: str
    status: Literal["active", "qa", "complete"]
    assigned_to: str
    github_url: str | None
    created_at: str
    seq: int


class Missions(Row):
    """A page of missions, by number."""

    missions: list[Mission]
    next: str | None


class Channel(Row):
    """A chat of a mission, with its newest message and its counts."""

    citizen: str
    last_seq: int
    last_message: Message | None
    read_seq: int
    unread: int
    listening: bool
    waiting: int
    working: int
    failed: int


class DodItem(Row):
    """An item of a definition of done."""

    id: str
    mission_id: str
    text: str
    category: Literal["functional", "non-functional", "tests"]
    completed: bool
    completed_at: str | None
    seq: int
    test_name: str | None
    evidence: Row | None
    override: Row | None


class Progress(Row):
    """How many items of a definition of done are completed."""

    completed: int
    total: int


class Checklist(NamedTuple):
    """A definition of done."""

    items: list[DodItem]
    progress: Progress


class TestRun(Row):
    """A test run."""

    id: str
    mission_id: str
    status: Literal["running", "passed", "failed"]
    summary: Row | None
    results: list[Any] | None
    created_at: str
    seq: int


class TestRuns(Row):
    """A page of test runs, newest first."""

    test_runs: list[TestRun]
    next: str | None


class Citizen(Row):
    """A registered citizen."""

    name: str
    title: str
    about: str | None
    position: int
    listening: bool
    last_seen: str | None
