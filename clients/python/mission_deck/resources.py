"""Missions and their parts, read and changed over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from .http import Http, given, path_of
from .rows import (
    Channel,
    Checklist,
    DodItem,
    Message,
    Mission,
    Missions,
    Progress,
    Request,
    Requests,
    Row,
    TestRun,
    TestRuns,
)


class MissionList:
    """The missions that the token may see: `deck.missions`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(
        self,
        *,
        status: Literal["active", "qa", "complete"] | None = None,
        assigned_to: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Missions:
        """Returns a page of missions; `cursor` is `next` of the page before."""
        query = {"status": status, "assigned_to": assigned_to, "limit": limit, "cursor": cursor}
        page = Missions(await self._http.call("GET", "missions", query=query))
        page["missions"] = [Mission(row) for row in page.missions]
        return page

    async def create(
        self,
        *,
        title: str,
        client: str,
        budget: int,
        deadline: str,
        assigned_to: str,
        **more: Any,
    ) -> Mission:
        """Creates a mission (admin)."""
        body = {
            "title": title,
            "client": client,
            "budget": budget,
            "deadline": deadline,
            "assigned_to": assigned_to,
            **more,
        }
        return Mission(await self._http.call("POST", "missions", body=body))


class MissionHandle:
    """Made by `deck.mission(mission)`."""

    def __init__(self, http: Http, mission: str | int) -> None:
        self._http = http
        self._path = path_of("missions", mission)

    async def get(self, *, at: str | None = None) -> Mission:
        """Returns the mission, now or as it was at a time (RFC 3339)."""
        return Mission(await self._http.call("GET", self._path, query={"at": at}))

    async def patch(self, **changes: Any) -> Mission:
        """Changes members of the mission (admin)."""
        return Mission(await self._http.call("PATCH", self._path, body=changes))

    async def channels(self) -> list[Channel]:
        """Returns all chats of the mission, the newest message first."""
        found: list[Channel] = []
        cursor: str | None = None
        while True:
            query = {"cursor": cursor}
            page = await self._http.call("GET", f"{self._path}/chat", query=query)
            for row in page.channels:
                channel = Channel(row)
                if channel.last_message is not None:
                    channel["last_message"] = Message(channel.last_message)
                found.append(channel)
            cursor = page.get("next")
            if cursor is None:
                return found


class DodList:
    """A definition of done: made by `deck.dod(mission)`."""

    def __init__(self, http: Http, mission: str | int) -> None:
        self._http = http
        self._path = path_of("missions", mission, "dod")

    async def list(self) -> Checklist:
        """Returns the items and how many are completed."""
        return _checklist(await self._http.call("GET", self._path))

    async def add(
        self,
        text: str,
        category: Literal["functional", "non-functional", "tests"],
        *,
        test_name: str | None = None,
    ) -> DodItem:
        """Adds an item; `test_name` is the test that proves it."""
        body = given(text=text, category=category, test_name=test_name)
        return DodItem(await self._http.call("POST", self._path, body=body))

    async def set(self, item: str, **changes: Any) -> DodItem:
        """Changes an item: `completed=True`, `text`, `category`, `test_name`, `after`."""
        path = f"{self._path}/{path_of(item)}"
        answer = await self._http.call("PATCH", path, body=changes)
        return DodItem(answer["item"])

    async def complete(self) -> Checklist:
        """Completes all items; the mission's status becomes `qa`."""
        return _checklist(await self._http.call("POST", f"{self._path}/complete", again=True))

    async def reset(self) -> Checklist:
        """Makes all items open again."""
        return _checklist(await self._http.call("POST", f"{self._path}/reset", again=True))


def _checklist(answer: Row) -> Checklist:
    return Checklist([DodItem(row) for row in answer["items"]], Progress(answer["progress"]))


class RequestList:
    """Requests to people: made by `deck.requests(mission)`."""

    def __init__(self, http: Http, mission: str | int) -> None:
        self._http = http
        self._path = path_of("missions", mission, "requests")

    async def list(
        self,
        *,
        state: Literal["open", "answered", "expired", "withdrawn"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Requests:
        """Returns a page of requests, newest first; `cursor` is `next` of the page before."""
        query = {"state": state, "limit": limit, "cursor": cursor}
        page = Requests(await self._http.call("GET", self._path, query=query))
        page["requests"] = [Request(row) for row in page.requests]
        return page

    async def get(self, id: str, *, wait: int | None = None) -> Request:
        """Returns a request; with `wait` (seconds, up to 50), once it is no longer open."""
        path = f"{self._path}/{path_of(id)}"
        return Request(await self._http.call("GET", path, query={"wait": wait}))

    async def make(
        self,
        *,
        kind: Literal["approve", "choose", "text"],
        title: str,
        body: str | None = None,
        options: Sequence[str] | None = None,
        task: str | None = None,
        expires_in: int | None = None,
        citizen: str | None = None,
    ) -> Request:
        """Asks people. `approve` is answered with a boolean, `choose` with one of the options.

        `expires_in`: seconds, a day if left out. `citizen`: who asks, if the token is an admin's.
        """
        asked = given(
            kind=kind,
            title=title,
            body=body,
            options=None if options is None else list(options),
            task=task,
            expires_in=expires_in,
            citizen=citizen,
        )
        return Request(await self._http.call("POST", self._path, body=asked))

    async def answer(self, id: str, answer: bool | str) -> Request:
        """Answers a request. Raises `conflict` if it is not open any more."""
        path = f"{self._path}/{path_of(id)}/answer"
        return Request(await self._http.call("POST", path, body={"answer": answer}))

    async def withdraw(self, id: str) -> Request:
        """Withdraws an open request of one's own."""
        return Request(await self._http.call("POST", f"{self._path}/{path_of(id)}/withdraw"))


class TestRunList:
    """Test runs: made by `deck.tests(mission)`."""

    def __init__(self, http: Http, mission: str | int) -> None:
        self._http = http
        self._path = path_of("missions", mission, "tests")

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> TestRuns:
        """Returns a page of runs, newest first; `cursor` is `next` of the page before."""
        query = {"limit": limit, "cursor": cursor}
        page = TestRuns(await self._http.call("GET", self._path, query=query))
        page["test_runs"] = [TestRun(row) for row in page.test_runs]
        return page

    async def latest(self) -> TestRun:
        """Returns the newest run."""
        return TestRun(await self._http.call("GET", f"{self._path}/latest"))

    async def get(self, run: str) -> TestRun:
        """Returns a run."""
        return TestRun(await self._http.call("GET", f"{self._path}/{path_of(run)}"))

    async def create(self, **run: Any) -> TestRun:
        """Creates a run: `status`, `summary`, `results`, `logs` (a citizen)."""
        return TestRun(await self._http.call("POST", self._path, body=run))

    async def update(self, run: str, **changes: Any) -> TestRun:
        """Changes a run: `status`, `summary`, `results` (a citizen)."""
        path = f"{self._path}/{path_of(run)}"
        return TestRun(await self._http.call("PATCH", path, body=changes))

    async def request(self) -> TestRun:
        """Asks for a run."""
        return TestRun(await self._http.call("POST", f"{self._path}/run"))

    async def log(self, run: str) -> str:
        """Returns a run's log."""
        return await self._http.call("GET", f"{self._path}/{path_of(run)}/logs") or ""

    async def append_log(self, run: str, text: str) -> int:
        """Appends to a run's log; returns the seq of the event (a citizen)."""
        path = f"{self._path}/{path_of(run)}/logs"
        answer = await self._http.call("POST", path, body=text)
        return int(answer.seq)
