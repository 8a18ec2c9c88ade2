"""Sends and other calls: keys, order, errors, tokens."""

from __future__ import annotations

import asyncio
import json

from typing import Any

from mission_deck import Deck, DeckError, Message, chat
from mission_deck.rows import Row

from .support import URL, DeckTest, sign


async def code_of(call: Any) -> str:
    """Returns the code of a call's error, or `ok`."""
    try:
        await asyncio.wait_for(call, 30)
    except DeckError as error:
        return error.code
    return "ok"


class SendTest(DeckTest):
    async def test_a_message_is_returned_once_it_is_stored(self) -> None:
        message = await self.chat.send("Fence it:\n```js\nlet a\n```", key="my-first")
        self.assertIsInstance(message, Message)
        self.assertEqual((message.seq, message.key, message["author"]), (1, "my-first", "alice"))
        self.assertEqual(message.code_blocks, [{"language": "js", "code": "let a\n"}])
        reply = await self.chat.send("and", reply_to=message.id, code_blocks=[])
        self.assertEqual((reply.in_reply_to, reply.code_blocks), (message.id, []))

    async def test_the_same_key_stores_nothing_twice(self) -> None:
        first = await self.chat.send("one", key="k")
        self.assertEqual(await self.chat.send("two", key="k"), first)

    async def test_a_lost_answer_stores_nothing_twice(self) -> None:
        wire = await self.wire()
        sender = await self.open(self.user_token, wire.url)
        wire.lost[b"POST /api/missions/"] = 3
        message = await sender.chat(self.mission.id, self.name).send("once")
        self.assertEqual(wire.lost[b"POST /api/missions/"], 0)
        self.assertRegex(str(message.key), r"^[0-9a-f]{32}$")
        self.assertEqual((await self.chat.history()).last_seq, 1)

    async def test_it_waits_for_the_server(self) -> None:
        wire = await self.wire()
        wire.refusing = True
        sender = await self.open(self.user_token, wire.url)
        sending = self.background(sender.chat(self.mission.id, self.name).send("later"))
        await asyncio.sleep(0.5)
        self.assertFalse(sending.done())
        wire.refusing = False
        self.assertEqual((await asyncio.wait_for(sending, 30)).seq, 1)

    async def test_the_order_of_the_calls_holds(self) -> None:
        wire = await self.wire()
        self.cutting(wire, 0.1)
        sender = await self.open(self.user_token, wire.url)
        lane = sender.chat(self.mission.id, self.name)
        sent = await asyncio.gather(*(lane.send(f"{n}") for n in range(100)))
        self.assertEqual([message.seq for message in sent], list(range(1, 101)))

    async def test_the_queue_is_bounded(self) -> None:
        wire = await self.wire()
        wire.refusing = True
        sender = await self.open(self.user_token, wire.url)
        lane = sender.chat(self.mission.id, self.name)
        waiting = [self.background(lane.send("x")) for _ in range(chat.MOST_MESSAGES)]
        await asyncio.sleep(0)
        self.assertEqual(await code_of(lane.send("one more")), "overloaded")
        await sender.close()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        self.assertEqual({(e.code, len(e.key or "")) for e in errors}, {("closed", 32)})  # type: ignore[union-attr]

    async def test_what_the_server_refuses_is_raised(self) -> None:
        cases = {"": "bad_request", "x" * 10_001: "bad_request", "\0": "bad_request"}
        cases["half \ud83c"] = "bad_request"
        for text, code in cases.items():
            self.assertEqual(await code_of(self.chat.send(text)), code)
        self.assertEqual(await code_of(self.chat.send("x", key="ü")), "bad_request")
        self.assertEqual(await code_of(self.user.chat(self.mission.id, "A b").send("x")), "bad_request")
        hidden = self.user.chat("00000000-0000-4000-8000-000000000000", self.name)
        with self.assertRaises(DeckError) as caught:
            await hidden.send("x")
        error = caught.exception
        self.assertEqual((error.code, error.status, bool(error.detail)), ("not_found", 404, True))
        self.assertEqual((await self.chat.history()).last_seq, 0)

    async def test_a_closed_deck_refuses_calls(self) -> None:
        async with Deck(URL, self.user_token) as deck:
            pass
        self.assertEqual(await code_of(deck.chat(47, "rafael").send("x")), "closed")
        self.assertEqual(await code_of(deck.missions.list()), "closed")


class ReadTest(DeckTest):
    async def test_history(self) -> None:
        for n in range(5):
            await self.chat.send(f"{n}")
        page = await self.chat.history(after=1, limit=2)
        self.assertEqual([m.message for m in page.messages], ["1", "2"])
        self.assertEqual((page.has_more, page.last_seq), (True, 5))
        newest = await self.chat.history(limit=2)
        self.assertEqual([m.seq for m in newest.messages], [4, 5])
        one = await self.chat.message(newest.messages[0].id)
        self.assertEqual((one.message, one.activity, one.get("redacted")), ("3", None, None))
        with self.assertRaises(AttributeError):
            one.misspelt

    async def test_search_and_redaction(self) -> None:
        sent = [await self.chat.send(text) for text in ("a secret apple", "pears")]
        [found] = (await self.chat.history(q="apple", order="rank", highlight=True)).messages
        self.assertTrue(found.snippet)
        redacted = await self.chat.redact(sent[0].id, "a secret")
        self.assertEqual((redacted.message, redacted.redacted["by"]), ("", "alice"))  # type: ignore[index]
        feed = self.chat.follow(after=2)
        event = await asyncio.wait_for(feed.__anext__(), 30)
        self.assertEqual((event.event, event.seq, event.data.seq), ("message.redacted", 3, 1))

    async def test_questions(self) -> None:
        sent = await self.chat.send("Why?")
        await self.citizen.chat(self.mission.id, self.name).send("Hm.", reply_to=sent.id)
        question = await self.chat.send("And?")
        page = await self.chat.questions()
        self.assertEqual([q.state for q in page.questions], ["answered", "waiting"])
        self.assertEqual(await code_of(self.chat.retry(question.id)), "conflict")
        self.assertFalse(page.listening)

    async def test_missions(self) -> None:
        page = await self.user.missions.list(status="active", limit=500)
        self.assertIn(self.mission.id, [mission.id for mission in page.missions])
        found = await self.user.mission(self.mission.number).get()
        self.assertEqual((found.id, found.title), (self.mission.id, "Telegram Notifier"))
        handle = self.admin.mission(self.mission.id)
        await handle.patch(github_url="https://example.com/a")
        self.assertIsNone((await handle.patch(github_url=None)).github_url)
        await self.chat.send("Hi")
        [channel] = await self.user.mission(self.mission.id).channels()
        self.assertEqual((channel.citizen, channel.last_message.message), (self.name, "Hi"))  # type: ignore[union-attr]
        dod = self.citizen.dod(self.mission.id)
        item = await dod.add("It runs", "functional")
        await self.user.dod(self.mission.id).set(item.id, completed=True)
        items, progress = await dod.list()
        self.assertEqual([(i.text, i.completed) for i in items], [("It runs", True)])
        self.assertEqual((progress.completed, progress.total), (1, 1))
        self.assertFalse((await self.user.dod(self.mission.id).reset()).items[0].completed)
        self.assertTrue((await self.user.dod(self.mission.id).complete()).items[0].completed)
        self.assertIn("rafael", [citizen.name for citizen in await self.user.citizens()])

    async def test_requests(self) -> None:
        requests = self.citizen.requests(self.mission.id)
        made = await requests.make(kind="choose", title="Which?", options=["a", "b"])
        self.assertEqual((made.state, made.citizen, made.options), ("open", self.name, ["a", "b"]))
        mine = self.user.requests(self.mission.number)
        self.assertEqual([r.id for r in (await mine.list(state="open")).requests], [made.id])
        waiting = self.background(requests.get(made.id, wait=30))
        self.assertEqual(await code_of(mine.answer(made.id, "c")), "bad_request")
        self.assertEqual((await mine.answer(made.id, "b")).answer, "b")
        self.assertEqual((await waiting).answered_by, "alice")
        self.assertEqual(await code_of(mine.answer(made.id, "a")), "conflict")
        other = await requests.make(kind="text", title="What?", expires_in=60)
        self.assertEqual((await requests.withdraw(other.id)).state, "withdrawn")

    async def test_runs_and_their_logs(self) -> None:
        runs = self.citizen.tests(self.mission.id)
        run = await runs.create(status="running", logs="one\n")
        self.assertGreater(await runs.append_log(run.id, "two 🎛️\n"), 0)
        self.assertEqual(await runs.log(run.id), "one\ntwo 🎛️\n")
        await runs.update(run.id, status="passed", summary={"passed": 2})
        latest = await self.user.tests(self.mission.id).latest()
        self.assertEqual((latest.id, latest.status, latest.summary), (run.id, "passed", {"passed": 2}))
        self.assertEqual((await runs.get(run.id)).status, "passed")
        self.assertEqual((await self.user.tests(self.mission.id).request()).status, "running")
        self.assertEqual(len((await runs.list()).test_runs), 2)


class TokenTest(DeckTest):
    async def test_a_function_is_called_again_when_its_token_is_refused(self) -> None:
        given: list[str] = []

        def token() -> str:
            given.append(sign("alice", "user", 3600 if given else -60))
            return given[-1]

        deck = await self.open(token)
        calls = (deck.mission(self.mission.id).get() for _ in range(10))
        self.assertEqual({mission.id for mission in await asyncio.gather(*calls)}, {self.mission.id})
        self.assertEqual(len(given), 2)

    async def test_a_refused_string_is_unauthorized(self) -> None:
        for token in (sign("alice", "user", -60), "a.b.c", "", "two words"):
            deck = await self.open(token)
            self.assertEqual(await code_of(deck.missions.list()), "unauthorized")

    async def test_a_function_that_fails_is_called_again_later(self) -> None:
        calls = 0

        async def token() -> str:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise OSError("no network")
            return sign("alice", "user")

        deck = await self.open(token)
        with self.assertLogs("mission_deck"):
            self.assertEqual((await deck.chat(self.mission.id, self.name).send("x")).seq, 1)

    async def test_no_error_contains_a_token(self) -> None:
        token = sign("alice", "user", -60)
        deck = await self.open(token)
        with self.assertRaises(DeckError) as caught:
            await deck.missions.list()
        self.assertNotIn(token, f"{caught.exception!r} {deck!r} {vars(caught.exception)}")

    async def test_bad_options(self) -> None:
        for url in ("", "ftp://deck", "127.0.0.1:3000", "http://"):
            with self.assertRaises(DeckError):
                Deck(url, "t")
        with self.assertRaises(DeckError):
            Deck(URL, "t", patience=1)


class ScriptedTest(DeckTest):
    """Against a server that gives the answers of a list, one a connection."""

    async def scripted(self, *answers: tuple[int, dict[str, str], str]) -> tuple[Deck, list[str]]:
        left = list(answers)
        asked: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.split(b" HTTP")[0].decode())
            status, headers, body = left.pop(0)
            fields = {"content-length": str(len(body)), "connection": "close", **headers}
            lines = [f"HTTP/1.1 {status} x", *(f"{k}: {v}" for k, v in fields.items()), "", body]
            writer.write("\r\n".join(lines).encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.addCleanup(server.close)
        port = server.sockets[0].getsockname()[1]
        return await self.open("a.b.c", f"http://127.0.0.1:{port}"), asked

    JSON = {"content-type": "application/json"}

    async def test_rate_limited_and_unavailable_are_waited_for(self) -> None:
        limited = json.dumps({"code": "rate_limited", "detail": "x", "retry_after": 0.4})
        down = json.dumps({"code": "unavailable", "detail": "x"})
        deck, asked = await self.scripted(
            (429, self.JSON, limited),
            (503, {**self.JSON, "retry-after": "0"}, down),
            (502, {"content-type": "text/html"}, "<h1>Bad gateway</h1>"),
            (201, self.JSON, '{"seq":7}'),
        )
        begun = asyncio.get_running_loop().time()
        self.assertEqual((await deck.chat(47, "rafael").send("x")).seq, 7)
        self.assertGreater(asyncio.get_running_loop().time() - begun, 0.4)
        self.assertEqual(asked, ["POST /api/missions/47/chat/rafael"] * 4)

    async def test_what_may_not_be_made_twice_is_not(self) -> None:
        deck, asked = await self.scripted((503, {}, ""), (201, self.JSON, "{}"))
        self.assertEqual(await code_of(deck.tests(47).create()), "unavailable")
        self.assertEqual(len(asked), 1)

    async def test_an_internal_error_has_its_id(self) -> None:
        body = json.dumps({"code": "internal", "detail": "x", "error_id": "e1"})
        deck, _ = await self.scripted((500, self.JSON, body))
        with self.assertRaises(DeckError) as caught:
            await deck.missions.list()
        self.assertEqual((caught.exception.error_id, caught.exception.status), ("e1", 500))

    async def test_a_stream_that_is_cut_in_an_event_resumes_before_it(self) -> None:
        event = 'id: 1\nevent: message.created\ndata: {"message":"a"}\n\n'
        stream = {"content-type": "text/event-stream", "deck-epoch": "e"}
        length = {"content-length": "9999"}
        deck, asked = await self.scripted(
            (200, {**stream, **length}, f': hi\n\n{event}id: 2\nevent: message.created\ndata: {{"mess'),
            (200, stream, event.replace("id: 1", "id: 2") + "retry: 100\n: restart\n\n"),
            (200, stream, event.replace("id: 1", "id: 3").replace("\n", "\r\n")),
        )
        feed = deck.chat("m", "rafael").follow(after=0)
        seen = [await feed.__anext__() for _ in range(3)]
        self.assertEqual([e.seq for e in seen], [1, 2, 3])
        path = "GET /api/missions/m/chat/rafael"
        self.assertEqual(asked, [f"{path}?after=0", f"{path}?after=1&epoch=e", f"{path}?after=2&epoch=e"])

    async def test_stored_history_of_another_database_is_not_joined(self) -> None:
        lines = {"content-type": "application/x-ndjson", "deck-last-seq": "9"}
        deck, _ = await self.scripted(
            (200, {**lines, "deck-epoch": "e", "content-length": "999"}, '{"seq":1}\n{"seq'),
            (200, {**lines, "deck-epoch": "f"}, '{"seq":2}\n'),
        )
        seen: list[int] = []
        with self.assertRaises(DeckError) as caught:
            async for message in deck.chat(47, "rafael").messages():
                seen.append(message.seq)
        self.assertEqual((seen, caught.exception.code), ([1], "conflict"))


class RowTest(DeckTest):
    def test_a_row_is_a_dict_with_attributes(self) -> None:
        row = Message({"message": "x", "new": Row(a=1)})
        self.assertEqual((row.message, row["message"], row.author, row.new.a), ("x", "x", None, 1))
        self.assertEqual(json.loads(json.dumps(row)), {"message": "x", "new": {"a": 1}})
        self.assertFalse(hasattr(row, "misspelt"))


