"""A citizen's worker: it claims questions and answers each with the handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Union

from .errors import DeckError
from .http import WITHOUT_END, Http, log, new_key, path_of
from .reply import Reply, is_lost
from .rows import Message, Row

#: Answers a question: writes a reply, or returns one. With neither, the task ends without a reply.
Handler = Callable[[Message, Reply], Awaitable[Union[str, None]]]

#: Seconds that the handlers may take to end when the worker stops.
PATIENCE = 4.0


def _retry_delay(attempt: int) -> int:
    """Returns the seconds until a task whose handler failed is given again."""
    return min(300, 2**attempt)


class Job:
    """A claimed task and its handler."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.handler: asyncio.Task[str | None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        #: its task waited for people when the worker stopped, and keeps waiting
        self.left = False

    def end(self) -> None:
        """Cancels the handler."""
        if self.handler:
            self.handler.cancel()


class Worker:
    """Works for one citizen: up to `concurrency` handlers run at a time."""

    def __init__(
        self, http: Http, citizen: str, handler: Handler, concurrency: int, lease: int
    ) -> None:
        if not inspect.iscoroutinefunction(handler):
            raise TypeError("a handler must be an async function")
        if not 1 <= concurrency <= 100:
            raise DeckError("bad_request", "concurrency must be 1 to 100")
        if not 10 <= lease <= 3600:
            raise DeckError("bad_request", "lease must be 10 to 3600 seconds")
        self._http = http
        self._citizen = citizen
        self._handler = handler
        self._concurrency = concurrency
        self._lease = lease
        self._jobs: dict[str, Job] = {}
        self._changed = asyncio.Event()

    async def work(self) -> None:
        """Claims tasks until it is cancelled. Raises the server's error if it refuses the worker."""
        loop = asyncio.get_running_loop()
        empty = 0
        while True:
            # A task that waits for people takes no room.
            room = self._concurrency - sum(not job.reply.parked for job in self._jobs.values())
            if room <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            begun = loop.time()
            # If the answer is lost, the same key gets the same tasks again.
            answer = await self._http.call(
                "POST",
                f"inbox/{path_of(self._citizen)}/claim",
                body={"credit": room, "wait": self._http.longest_wait, "lease": self._lease},
                headers={"idempotency-key": new_key()},
                again=True,
                tries=WITHOUT_END,
            )
            for task in answer.tasks:
                self._start(task)
            # A server that stops answers at once.
            empty = 0 if answer.tasks or loop.time() - begun > 1 else empty + 1
            if empty:
                await self._http.wait_to_retry(None, empty)

    async def stop(self) -> None:
        """Cancels the handlers and releases their tasks. Tasks that wait for people keep waiting."""
        for job in self._jobs.values():
            job.stopping = True
            job.left = job.reply.parked > 0
            job.end()
        await self._wait_for_jobs()
        # These handlers do not end, or the server cannot be reached.
        late = list(self._jobs.values())
        for job in late:
            if job.handler and not job.handler.done():
                log.warning("a handler of %s does not end when it is cancelled", self._citizen)
            if job.task:
                job.task.cancel()
        await self._wait_for_jobs()
        try:
            releases = (job.reply.release(0) for job in late if not job.left)
            await asyncio.wait_for(asyncio.gather(*releases, return_exceptions=True), PATIENCE)
        except asyncio.TimeoutError:
            pass

    async def _wait_for_jobs(self) -> None:
        tasks = [job.task for job in self._jobs.values() if job.task]
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)

    def _start(self, task: Row) -> None:
        id: str = task.task
        former = self._jobs.get(id)
        job = Job(Reply(self._http, self._citizen, task, self._lease, self._changed.set))
        self._jobs[id] = job

        async def run() -> None:
            if former and former.task:
                # The lease ran out here, and the task came back: the former claim is void.
                former.reply.lost = True
                former.end()
                await asyncio.wait({former.task})
            await self._run(job, Message(task.message))

        def over(_: Any) -> None:
            if self._jobs.get(id) is job:
                del self._jobs[id]
            self._changed.set()

        job.task = asyncio.create_task(run())
        job.task.add_done_callback(over)

    async def _run(self, job: Job, question: Message) -> None:
        """Runs the handler and ends the task."""
        reply = job.reply
        if job.stopping:
            await self._release(job, None)
            return

        async def handle() -> str | None:
            return await self._handler(question, reply)

        job.handler = asyncio.create_task(handle())
        keeper = asyncio.create_task(reply.keep(job.end))
        returned: str | None = None
        error: BaseException | None = None
        try:
            # (If this job is cancelled, its handler does not end: it is left alone.)
            await asyncio.wait({job.handler})
            if job.handler.cancelled():
                error = asyncio.CancelledError()
            else:
                error = job.handler.exception()
                returned = None if error else job.handler.result()
        finally:
            keeper.cancel()
        await asyncio.wait({keeper})
        if reply.lost:
            await self._release(job, None)
        elif error and not reply.cancelled and not reply.saved:
            await self._release(job, error)
        else:
            # A cancelled reply is stored as far as it was written.
            try:
                await reply.finish(returned)
            except Exception as refused:
                reply.lost = isinstance(refused, DeckError) and is_lost(refused)
                await self._release(job, None if reply.lost else refused)

    async def _release(self, job: Job, error: BaseException | None) -> None:
        reply = job.reply
        if job.stopping and isinstance(error, asyncio.CancelledError):
            error = None
        if error:
            log.error("the handler of %s failed", self._citizen, exc_info=error)
        if job.left:
            return
        try:
            await reply.release(0 if job.stopping or not error else _retry_delay(reply.attempt))
        except DeckError as refused:
            if not is_lost(refused):
                log.error("a task of %s was not released: %s", self._citizen, refused)
