"""A deck: the connection to one server, and the workers of its citizens."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any, overload

from .chat import Chat, Outbox
from .errors import DeckError
from .http import Http, Token
from .inbox import Handler, Worker
from .resources import DodList, MissionHandle, MissionList, RequestList, TestRunList
from .rows import Citizen


class CitizenHandle:
    """Made by `deck.citizen(name)`."""

    def __init__(self, http: Http, name: str, workers: dict[str, Worker]) -> None:
        self._http = http
        self._name = name
        self._workers = workers

    @overload
    def answer(self, handler: Handler) -> Handler: ...

    @overload
    def answer(
        self, *, concurrency: int = 4, lease: int = 30
    ) -> Callable[[Handler], Handler]: ...

    def answer(
        self, handler: Handler | None = None, *, concurrency: int = 4, lease: int = 30
    ) -> Handler | Callable[[Handler], Handler]:
        """A decorator: `deck.run()` answers the citizen's questions with the handler.

        The handler gets the question and a `Reply`. What it writes, or the text that it returns, becomes
        the message, in one transaction with the end of the task; with neither the task ends without
        a reply. If it raises an error, the task is given back for 2, 4, 8, then 16 seconds, and has
        failed after the fifth attempt. If somebody cancels the reply, the handler is cancelled, and
        what it wrote so far is stored. If another worker has the task, the handler is cancelled.

        `concurrency`: handlers at a time. `lease`: seconds after which another worker gets the
        tasks of a worker that died.
        """

        def register(handler: Handler) -> Handler:
            if self._name in self._workers:
                raise DeckError("conflict", f"{self._name} has a handler already")
            self._workers[self._name] = Worker(
                self._http, self._name, handler, concurrency, lease
            )
            return handler

        return register if handler is None else register(handler)


class Deck:
    """The connection to one server.

    `token` is a JSON Web Token, or a function (async or not) that returns one. The function is called
    before the first request, and again when the server refuses its token.

    `patience`: seconds without a byte after which a connection counts as dead; the server sends a sign
    of life every 20 seconds.
    """

    def __init__(self, url: str, token: Token, *, patience: float = 60.0) -> None:
        self._http = Http(url, token, patience)
        self._outbox = Outbox(self._http)
        self._workers: dict[str, Worker] = {}
        self._stopping = asyncio.Event()
        self._running: asyncio.Future[None] | None = None
        self.missions = MissionList(self._http)

    async def __aenter__(self) -> Deck:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops `run`, and ends everything else at once: calls raise `closed`, feeds end."""
        if self._running:
            self.stop()
            await asyncio.wait({self._running})
        await self._http.close()

    def chat(self, mission: str | int, citizen: str) -> Chat:
        """A citizen's chat in a mission, which is named by its number or UUID."""
        return Chat(self._http, self._outbox, mission, citizen)

    def mission(self, mission: str | int) -> MissionHandle:
        """A mission."""
        return MissionHandle(self._http, mission)

    def requests(self, mission: str | int) -> RequestList:
        """A mission's requests to people."""
        return RequestList(self._http, mission)

    def dod(self, mission: str | int) -> DodList:
        """A mission's definition of done."""
        return DodList(self._http, mission)

    def tests(self, mission: str | int) -> TestRunList:
        """A mission's test runs."""
        return TestRunList(self._http, mission)

    async def citizens(self) -> list[Citizen]:
        """Returns the registered citizens, in their order."""
        answer = await self._http.call("GET", "citizens")
        return [Citizen(row) for row in answer.citizens]

    def citizen(self, name: str) -> CitizenHandle:
        """A citizen: `@deck.citizen("rafael").answer` registers its handler."""
        return CitizenHandle(self._http, name, self._workers)

    async def run(self, *, signals: bool = True) -> None:
        """Answers questions until `stop` is called, or until SIGTERM or SIGINT.

        When it stops, the handlers are cancelled and their tasks are given back at once. A second
        signal ends the process. Raises the server's error if it refuses a worker.
        """
        if not self._workers:
            raise DeckError("bad_request", "there is no handler: see deck.citizen(name).answer")
        if self._running:
            raise DeckError("conflict", "run() runs already")
        self._running = asyncio.get_running_loop().create_future()
        forget = self._stop_on_signals() if signals else _nothing
        loops = [asyncio.create_task(worker.work()) for worker in self._workers.values()]
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed = [loop for loop in loops if loop.done()]
            for task in (*loops, stopped):
                task.cancel()
            try:
                await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
            finally:
                forget()
                self._stopping.clear()
                self._running.set_result(None)
                self._running = None
        for loop in failed:
            loop.result()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def _stop_on_signals(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        taken: list[signal.Signals] = []

        def forget() -> None:
            for taken_signal in taken:
                loop.remove_signal_handler(taken_signal)
            taken.clear()

        def on_signal() -> None:
            # The next signal ends the process.
            forget()
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, on_signal)
                taken.append(number)
            except (NotImplementedError, RuntimeError, ValueError):
                pass  # not the main thread, or Windows: KeyboardInterrupt cancels run()
        return forget


def _nothing(*_: Any) -> None:
    """Does nothing."""
