"""Citizens that answer: claims, drafts, leases, cancels, requests to people, the stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import unittest
from typing import Any
from unittest.mock import patch

from mission_deck import Deck, DeckError, Handler, Message, Question, Reply, reply as replies

from .support import PACKAGE, URL, DeckTest, sign, until


class AnswerTest(DeckTest):
    def setUp(self) -> None:
        # Cancels are noticed when the lease is renewed.
        quicker = patch.object(replies, "RENEW_EVERY", 0.3)
        quicker.start()
        self.addCleanup(quicker.stop)

    async def answering(self, handler: Handler, url: str = URL, **options: Any) -> Deck:
        """Answers with the handler until the test ends."""
        deck = await self.open(self.citizen_token, url)
        deck.citizen(self.name).answer(**options)(handler)
        self.background(deck.run(signals=False))
        return deck

    async def reply_to(self, question: Message) -> Message:
        """Waits for the reply to a question."""
        return await asyncio.wait_for(self._reply_to(question), 60)

    async def _reply_to(self, question: Message) -> Message:
        async for event in self.chat.follow(after=question.seq):
            if event.data.in_reply_to == question.id:
                return event.data
        raise AssertionError("the deck was closed")

    async def ask(self, text: str) -> Message:
        """Asks, and returns the reply."""
        return await self.reply_to(await self.chat.send(text))

    async def state_of(self, question: Message) -> Question:
        page = await self.chat.questions(limit=500)
        return next(found for found in page.questions if found.id == question.id)

    async def becomes(self, question: Message, state: str) -> Question:
        async def met() -> bool:
            return (await self.state_of(question)).state == state

        await until(met, f"the question to be {state}")
        return await self.state_of(question)

    # Replies ----------------------------------------------------------------------------------------

    async def test_what_is_written_becomes_the_reply(self) -> None:
        seen: list[Any] = []

        async def handler(question: Message, reply: Reply) -> None:
            seen.append((question.message, question["author"], reply.attempt, reply.task))
            for word in ("You ", "asked: ", question.message):
                reply.write(word)
                await asyncio.sleep(0.1)

        await self.answering(handler)
        question = await self.chat.send("Läuft es 🎛️?")
        reply = await self.reply_to(question)
        self.assertEqual(reply.message, "You asked: Läuft es 🎛️?")
        self.assertEqual((reply.sender, reply.author), ("citizen", self.name))
        self.assertEqual(seen, [("Läuft es 🎛️?", "alice", 1, question.id)])
        self.assertEqual((await self.state_of(question)).state, "answered")

    async def test_a_returned_text_is_the_reply(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            reply.write("a draft")
            return f"re: {question.message}"

        await self.answering(handler)
        self.assertEqual((await self.ask("x")).message, "re: x")

    async def test_with_neither_the_question_is_closed(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            pass

        await self.answering(handler)
        await self.becomes(await self.chat.send("x"), "closed")

    async def test_done_stores_code_blocks(self) -> None:
        stored: list[Any] = []

        async def handler(question: Message, reply: Reply) -> None:
            reply.write("replaced")
            blocks = [{"language": "js", "code": "1\n"}]
            await asyncio.sleep(0.25)
            stored.append(await reply.done("Here.", code_blocks=blocks))
            await asyncio.sleep(1)
            try:
                reply.write("more")
            except DeckError as error:
                stored.append(error.code)

        await self.answering(handler)
        reply = await self.ask("x")
        self.assertEqual((reply.message, reply.code_blocks), ("Here.", [{"language": "js", "code": "1\n"}]))
        await until(lambda: len(stored) == 2, "the handler")
        self.assertEqual(stored, [reply, "conflict"])

    async def test_halves_of_a_character_are_joined(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            for part in ("🎛"[:0] + "\ud83c", "\udf9b", "\ufe0f!"):
                reply.write(part)
                await asyncio.sleep(0.15)

        await self.answering(handler)
        self.assertEqual((await self.ask("x")).message, "🎛️!")

    async def test_questions_that_were_asked_before_are_answered(self) -> None:
        question = await self.chat.send("before")

        async def handler(question: Message, reply: Reply) -> str:
            return f"re: {question.message}"

        await self.answering(handler)
        self.assertEqual((await self.reply_to(question)).message, "re: before")

    async def test_concurrency_is_a_bound_and_is_used(self) -> None:
        running = most = 0

        async def handler(question: Message, reply: Reply) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.2)
            running -= 1
            return "x"

        questions = [await self.chat.send(f"{n}") for n in range(10)]
        await self.answering(handler, concurrency=3)
        for question in questions:
            await self.becomes(question, "answered")
        self.assertEqual(most, 3)

    async def test_a_reply_that_is_too_long_fails_and_says_so(self) -> None:
        caught: list[str] = []

        async def handler(question: Message, reply: Reply) -> None:
            if reply.attempt == 1:
                try:
                    while True:
                        reply.write("x" * 5000)
                        await asyncio.sleep(0)
                except DeckError as error:
                    caught.append(error.code)
                    raise
            reply.write("short")

        await self.answering(handler)
        with self.assertLogs("mission_deck", "ERROR"):
            self.assertEqual((await self.ask("x")).message, "short")
        self.assertEqual(caught, ["too_large"])

    # Faults -----------------------------------------------------------------------------------------

    async def test_an_error_gives_the_task_back_for_a_while(self) -> None:
        times: list[float] = []

        async def handler(question: Message, reply: Reply) -> None:
            times.append(asyncio.get_running_loop().time())
            reply.write("a part that is given up ")
            if reply.attempt < 3:
                raise ValueError("on purpose")
            await asyncio.sleep(0.2)

        await self.answering(handler)
        with self.assertLogs("mission_deck", "ERROR") as logged:
            self.assertEqual((await self.ask("x")).message, "a part that is given up ")
        self.assertIn("on purpose", "".join(logged.output))
        self.assertGreaterEqual(times[1] - times[0], 1.9)
        self.assertGreaterEqual(times[2] - times[1], 3.9)

    async def test_a_result_that_is_no_text_is_an_error(self) -> None:
        async def handler(question: Message, reply: Reply) -> Any:
            return "text" if reply.attempt > 1 else {1, 2}

        await self.answering(handler)
        with self.assertLogs("mission_deck", "ERROR"):
            self.assertEqual((await self.ask("x")).message, "text")

    async def test_lost_answers_change_nothing(self) -> None:
        attempts: list[int] = []

        async def handler(question: Message, reply: Reply) -> None:
            attempts.append(reply.attempt)
            for word in ("one ", "two ", "three"):
                reply.write(word)
                await asyncio.sleep(0.2)

        wire = await self.wire()
        path = f"POST /api/inbox/{self.name}/"
        question = await self.chat.send("x")
        tasks = f"{path}tasks/{question.id}/"
        lost = {f"{path}claim": 1, f"{tasks}draft": 2, f"{tasks}reply": 1}
        wire.lost = {request.encode(): count for request, count in lost.items()}
        await self.answering(handler, wire.url)
        self.assertEqual((await self.reply_to(question)).message, "one two three")
        self.assertEqual(set(wire.lost.values()), {0})
        self.assertEqual(attempts, [1])
        self.assertEqual((await self.chat.history()).last_seq, 2)

    async def test_each_question_is_answered_once_through_cuts(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            for word in ("re: ", question.message):
                reply.write(word)
                await asyncio.sleep(0.02)

        wire = await self.wire()
        self.cutting(wire, 0.3)
        await self.answering(handler, wire.url)
        await self.answering(handler, wire.url)
        questions = [await self.chat.send(f"{n}") for n in range(60)]
        for question in questions:
            await self.becomes(question, "answered")
        history = await self.chat.history(limit=500, sender="citizen")
        expected = sorted(f"re: {n}" for n in range(60))
        self.assertEqual(sorted(message.message for message in history.messages), expected)

    async def test_the_lease_is_renewed_while_a_handler_works(self) -> None:
        end = asyncio.Event()

        async def handler(question: Message, reply: Reply) -> str:
            await end.wait()
            return "done"

        await self.answering(handler, lease=10)
        question = await self.chat.send("x")
        first = (await self.becomes(question, "working")).until

        async def renewed() -> bool:
            return (await self.state_of(question)).until != first

        await until(renewed, "the renewal")
        end.set()
        self.assertEqual((await self.reply_to(question)).message, "done")

    async def test_a_lost_claim_cancels_the_handler(self) -> None:
        events: list[str] = []
        held: list[Reply] = []

        async def slow(question: Message, reply: Reply) -> None:
            held.append(reply)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                events.append(f"cancelled: {reply.cancelled}")
                raise

        async def quick(question: Message, reply: Reply) -> str:
            return f"attempt {reply.attempt}"

        await self.answering(slow, concurrency=1, lease=10)
        question = await self.chat.send("x")
        await until(lambda: len(held) == 1, "the handler")
        # Its claim ends without its knowledge, and another worker has the task.
        await held[0].release(0)
        await self.answering(quick)
        self.assertEqual((await self.reply_to(question)).message, "attempt 2")
        await until(lambda: events == ["cancelled: False"], "the handler to end")
        self.assertEqual((await self.state_of(question)).state, "answered")

    async def test_a_task_that_comes_back_to_its_worker_starts_again(self) -> None:
        ended: list[int] = []
        held: list[Reply] = []

        async def handler(question: Message, reply: Reply) -> str:
            held.append(reply)
            try:
                if reply.attempt == 1:
                    await asyncio.sleep(100)
                return f"attempt {reply.attempt}"
            finally:
                ended.append(reply.attempt)

        await self.answering(handler)
        question = await self.chat.send("x")
        await until(lambda: len(held) == 1, "the handler")
        await held[0].release(0)
        self.assertEqual((await self.reply_to(question)).message, "attempt 2")
        self.assertEqual(ended, [1, 2])

    async def test_a_refused_worker_ends_run(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            pass

        deck = await self.open(sign("bob", "citizen"))
        deck.citizen(self.name).answer(handler)
        with self.assertRaises(DeckError) as caught:
            await asyncio.wait_for(deck.run(), 30)
        self.assertEqual(caught.exception.code, "forbidden")

    async def test_bad_registrations(self) -> None:
        deck = await self.open(self.citizen_token)
        with self.assertRaises(DeckError):
            await deck.run()

        async def handler(question: Message, reply: Reply) -> None:
            pass

        with self.assertRaises(TypeError):
            deck.citizen(self.name).answer(lambda question, reply: None)  # type: ignore[arg-type]
        for options in ({"concurrency": 0}, {"concurrency": 101}, {"lease": 9}, {"lease": 3601}):
            with self.assertRaises(DeckError):
                deck.citizen(self.name).answer(**options)(handler)
        self.assertIs(deck.citizen(self.name).answer(handler), handler)
        with self.assertRaises(DeckError):
            deck.citizen(self.name).answer(handler)

    # Cancels ----------------------------------------------------------------------------------------

    async def test_a_cancel_stops_the_handler_and_stores_what_it_wrote(self) -> None:
        events: list[Any] = []

        async def handler(question: Message, reply: Reply) -> None:
            reply.write("So far")
            try:
                await asyncio.sleep(100)
            finally:
                events.append(reply.cancelled)

        await self.answering(handler)
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        await self.chat.cancel(question.id)
        self.assertEqual((await self.reply_to(question)).message, "So far")
        self.assertEqual(events, [True])

    async def test_a_handler_may_end_a_cancelled_reply_itself(self) -> None:
        async def handler(question: Message, reply: Reply) -> str | None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return "Stopped."
            return None

        await self.answering(handler)
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        await self.chat.cancel(question.id)
        self.assertEqual((await self.reply_to(question)).message, "Stopped.")

    async def test_a_cancelled_reply_without_a_word_closes_the_question(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            await asyncio.sleep(100)

        await self.answering(handler)
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        await self.chat.cancel(question.id)
        await self.becomes(question, "closed")

    # Requests to people -----------------------------------------------------------------------------

    async def open_request(self) -> Any:
        requests = self.user.requests(self.mission.id)

        async def made() -> bool:
            return len((await requests.list(state="open")).requests) == 1

        await until(made, "the request")
        return (await requests.list(state="open")).requests[0]

    async def test_asking_people_takes_no_room(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            if question.message == "quick":
                return "re: quick"
            reply.write("Hm. ")
            go = await reply.ask(kind="approve", title="Deploy?", body="It is *Friday*.")
            kind = await reply.ask(kind="choose", title="How?", options=["slow", "fast"])
            return f"{go} {kind}"

        await self.answering(handler, concurrency=1)
        question = await self.chat.send("deploy")
        request = await self.open_request()
        self.assertEqual((request.task, request.citizen, request.body), (question.id, self.name, "It is *Friday*."))
        self.assertEqual((await self.ask("quick")).message, "re: quick")
        requests = self.user.requests(self.mission.id)
        await requests.answer(request.id, True)
        await requests.answer((await self.open_request()).id, "slow")
        self.assertEqual((await self.reply_to(question)).message, "True slow")

    async def test_a_lost_answer_asks_people_once(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            first = await reply.ask(kind="text", title="Name?")
            second = await reply.ask(kind="text", title="Name?")
            return f"{first} {second}"

        wire = await self.wire()
        path = f"POST /api/missions/{self.mission.id}/requests"
        wire.lost = {path.encode(): 1}
        await self.answering(handler, wire.url)
        question = await self.chat.send("x")
        requests = self.user.requests(self.mission.id)
        for answer in ("Anna", "Bob"):
            await requests.answer((await self.open_request()).id, answer)
        self.assertEqual((await self.reply_to(question)).message, "Anna Bob")
        self.assertEqual(wire.lost, {path.encode(): 0})
        self.assertEqual(len((await requests.list()).requests), 2)

    async def test_a_handler_that_starts_again_gets_the_answer_again(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            answer = await reply.ask(kind="approve", title="Deploy?")
            if reply.attempt == 1:
                raise ValueError("on purpose")
            return f"{answer} in attempt {reply.attempt}"

        await self.answering(handler)
        question = await self.chat.send("x")
        with self.assertLogs("mission_deck", "ERROR"):
            await self.user.requests(self.mission.id).answer((await self.open_request()).id, True)
            self.assertEqual((await self.reply_to(question)).message, "True in attempt 2")
        self.assertEqual(len((await self.user.requests(self.mission.id).list()).requests), 1)

    async def test_a_request_without_an_answer_raises_how_it_ended(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            try:
                await reply.ask(kind="text", title="Well?", expires_in=1)
            except DeckError as error:
                reply.write(error.code)
            try:
                await reply.ask(kind="text", title="Well?")
            except DeckError as error:
                return f"{reply.text} {error.code}"
            return ""

        await self.answering(handler)
        question = await self.chat.send("x")
        requests = self.citizen.requests(self.mission.id)

        async def second() -> bool:
            return [r.state for r in (await requests.list()).requests] == ["open", "expired"]

        await until(second, "the second request")
        await requests.withdraw((await self.open_request()).id)
        self.assertEqual((await self.reply_to(question)).message, "expired withdrawn")

    async def test_a_cancelled_reply_withdraws_its_request(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            await reply.ask(kind="text", title="Well?")

        await self.answering(handler)
        question = await self.chat.send("x")
        request = await self.open_request()
        await self.chat.cancel(question.id)
        await self.becomes(question, "closed")
        found = await self.user.requests(self.mission.id).get(request.id)
        self.assertEqual(found.state, "withdrawn")

    # Activity ---------------------------------------------------------------------------------------

    async def test_steps_are_stored_with_the_reply(self) -> None:
        caught: list[str] = []

        async def handler(question: Message, reply: Reply) -> None:
            tests = reply.activity("Runs the tests")
            reply.activity("Reads the log")
            await asyncio.sleep(0.4)
            tests.update("Runs the tests: 12 of 80")
            tests.failed()
            reply.activity("Reads the log", "done")
            reply.activity("x" * 300, "done")
            try:
                reply.activity("")
            except DeckError as error:
                caught.append(error.code)
            await reply.done("They fail.", usage={"tokens": 7})

        await self.answering(handler)
        message = await self.ask("x")
        self.assertEqual(caught, ["bad_request"])
        self.assertEqual(
            [(step["line"], step["status"]) for step in message.activity or []],
            [
                ("Runs the tests: 12 of 80", "failed"),
                ("Reads the log", "done"),
                ("x" * 199 + "…", "done"),
            ],
        )
        self.assertEqual(message.usage, {"tokens": 7})

    # The stop ---------------------------------------------------------------------------------------

    async def test_stop_gives_the_tasks_back_at_once(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            reply.write("half")
            await asyncio.sleep(100)

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        deck.stop()
        await asyncio.wait_for(running, 10)
        self.assertEqual((await self.state_of(question)).state, "waiting")

        async def quick(question: Message, reply: Reply) -> str:
            return f"attempt {reply.attempt}"

        await self.answering(quick)
        self.assertEqual((await self.reply_to(question)).message, "attempt 2")

    async def test_a_handler_that_finishes_while_it_stops_is_stored(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
                return "just in time"
            return ""

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        deck.stop()
        await asyncio.wait_for(running, 10)
        self.assertEqual((await self.reply_to(question)).message, "just in time")

    async def test_a_handler_that_does_not_end_loses_its_task(self) -> None:
        end = asyncio.Event()

        async def handler(question: Message, reply: Reply) -> str:
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    pass
            return "too late"

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        with self.assertLogs("mission_deck", "WARNING"):
            deck.stop()
            await asyncio.wait_for(running, 20)
        end.set()
        self.assertEqual((await self.state_of(question)).state, "waiting")

    async def test_a_task_that_waits_for_people_keeps_waiting_after_a_stop(self) -> None:
        async def handler(question: Message, reply: Reply) -> str:
            return str(await reply.ask(kind="text", title="Well?"))

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        request = await self.open_request()
        deck.stop()
        await asyncio.wait_for(running, 10)
        self.assertEqual((await self.state_of(question)).state, "working")
        self.assertEqual((await self.user.requests(self.mission.id).get(request.id)).state, "open")

    @unittest.skipUnless(os.environ.get("LONG"), "it takes a minute: LONG=1")
    async def test_another_worker_goes_on_with_the_answer_of_people(self) -> None:
        seen: list[Any] = []

        async def handler(question: Message, reply: Reply) -> str:
            seen.append(reply.request and reply.request.answer)
            return f"You said {await reply.ask(kind='text', title='Well?')}"

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        request = await self.open_request()
        deck.stop()
        await asyncio.wait_for(running, 10)
        await self.answering(handler)
        await self.user.requests(self.mission.id).answer(request.id, "yes")
        reply = await asyncio.wait_for(self._reply_to(question), 120)
        self.assertEqual((reply.message, seen), ("You said yes", [None, "yes"]))

    async def test_closing_the_deck_stops_run(self) -> None:
        async def handler(question: Message, reply: Reply) -> None:
            await asyncio.sleep(100)

        deck = await self.open(self.citizen_token)
        deck.citizen(self.name).answer(handler)
        running = asyncio.ensure_future(deck.run(signals=False))
        question = await self.chat.send("x")
        await self.becomes(question, "working")
        await asyncio.wait_for(deck.close(), 10)
        await asyncio.wait_for(running, 10)
        self.assertEqual((await self.state_of(question)).state, "waiting")

    async def test_a_signal_stops_the_process(self) -> None:
        script = f"""
import asyncio, os
from mission_deck import Deck

async def main():
    async with Deck(os.environ["DECK_URL"], os.environ["DECK_TOKEN"]) as deck:
        @deck.citizen({self.name!r}).answer
        async def handler(question, reply):
            await asyncio.sleep(100)
        await deck.run()
        print("stopped")

asyncio.run(main())
"""
        for number in (signal.SIGTERM, signal.SIGINT):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                script,
                env={**os.environ, "PYTHONPATH": str(PACKAGE), "DECK_URL": URL, "DECK_TOKEN": self.citizen_token},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            question = await self.chat.send("x")
            await self.becomes(question, "working")
            process.send_signal(number)
            out, err = await asyncio.wait_for(process.communicate(), 20)
            self.assertEqual((process.returncode, out, err), (0, b"stopped\n", b""))
            self.assertEqual((await self.state_of(question)).state, "waiting")
            await self.chat.cancel(question.id)

    async def test_one_deck_works_for_several_citizens(self) -> None:
        other = f"{self.name}-2"
        for name in (self.name, other):

            async def handler(question: Message, reply: Reply) -> str:
                return f"{question.citizen}: {question.message}"

            self.admin.citizen(name).answer(handler)
        self.background(self.admin.run(signals=False))
        self.assertEqual((await self.ask("x")).message, f"{self.name}: x")
        chat = self.user.chat(self.mission.id, other)
        await chat.send("y")
        feed = chat.follow(after=1)
        event = await asyncio.wait_for(feed.__anext__(), 30)
        self.assertEqual((event.data.message, event.data.author), (f"{other}: y", "root"))


class ReplyTest(DeckTest):
    def test_unsent_steps_are_bounded(self) -> None:
        task = {
            "task": "t",
            "claim": "c",
            "attempt": 1,
            "topic": "missions/m/chat/x",
            "message": {"created_at": ""},
        }
        from mission_deck.rows import decode

        reply = Reply(self.admin._http, "x", decode(json.dumps(task)), 30, lambda: None)  # type: ignore[reportPrivateUsage]
        for n in range(1000):
            reply.activity(f"line {n}")
        self.assertEqual(len(reply._unsent), replies.MOST_STEPS)  # type: ignore[reportPrivateUsage]
        reply._unsent.clear()  # type: ignore[reportPrivateUsage]
        reply.activity("line 999")
        self.assertEqual(len(reply._unsent), 0, "nothing changed")  # type: ignore[reportPrivateUsage]
