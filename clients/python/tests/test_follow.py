"""Following a chat: each event once and in order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from mission_deck import DeckError, Event, Feed

from .support import DeckTest, sign, until

EVENTS = int(os.environ.get("EVENTS", "300"))


async def take(feed: Feed, count: int) -> list[Event]:
    """Returns the next events."""
    events = [await asyncio.wait_for(feed.__anext__(), 30) for _ in range(count)]
    return events


class FollowTest(DeckTest):
    async def test_history_then_live_events(self) -> None:
        await self.chat.send("one")
        feed = self.chat.follow(after=0)
        [first] = await take(feed, 1)
        await self.chat.send("two")
        [second] = await take(feed, 1)
        self.assertEqual([first.seq, first.event, first.data.message], [1, "message.created", "one"])
        self.assertEqual([second["seq"], second["data"]["message"]], [2, "two"])
        self.assertEqual(second.data.author, "alice")
        self.assertEqual((feed.seq, feed.epoch), (2, (await self.chat.history()).epoch))

    async def test_without_after_it_begins_with_the_next_event(self) -> None:
        await self.chat.send("before")
        feed = self.chat.follow()
        step = asyncio.ensure_future(take(feed, 1))
        await until(lambda: feed.seq is not None, "the start")
        await self.chat.send("after")
        [event] = await step
        self.assertEqual((event.seq, event.data.message), (2, "after"))

    async def test_another_process_resumes_by_seq_and_epoch(self) -> None:
        for n in range(3):
            await self.chat.send(f"{n}")
        feed = self.chat.follow(after=0)
        await take(feed, 2)
        again = self.chat.follow(after=feed.seq, epoch=feed.epoch)
        self.assertEqual([event.seq for event in await take(again, 1)], [3])

    async def test_each_event_once_and_in_order_through_cuts(self) -> None:
        wire = await self.wire()
        self.cutting(wire, 1 if EVENTS > 1000 else 0.15)
        reader = await self.open(self.user_token, wire.url)
        senders = [await self.open(sign("alice", "user"), wire.url) for _ in range(3)]

        async def send(n: int) -> None:
            chat = senders[n].chat(self.mission.id, self.name)
            for i in range(n, EVENTS, 3):
                await chat.send(f"{n} {i}")

        sending = self.background(asyncio.gather(*(send(n) for n in range(3))))
        seen: list[Event] = []
        async for event in reader.chat(self.mission.id, self.name).follow(after=0):
            seen.append(event)
            if len(seen) == EVENTS:
                break
        await sending
        self.assertEqual([event.seq for event in seen], list(range(1, EVENTS + 1)))
        for n in range(3):
            mine = [event.data.message for event in seen if event.data.message.startswith(f"{n} ")]
            self.assertEqual(mine, [f"{n} {i}" for i in range(n, EVENTS, 3)])
        self.assertGreater(wire.cuts, 2)
        self.assertEqual((await self.chat.history(limit=1)).last_seq, EVENTS, "each stored once")
        print(f"# {EVENTS} events through {wire.cuts} cuts")

    async def test_a_silent_connection_is_given_up(self) -> None:
        wire = await self.wire()
        reader = await self.open(self.user_token, wire.url, patience=2)
        feed = reader.chat(self.mission.id, self.name).follow(after=0)
        await self.chat.send("one")
        await take(feed, 1)
        wire.swallow()
        await self.chat.send("two")
        self.assertEqual([event.seq for event in await take(feed, 1)], [2])

    async def test_text_of_any_kind(self) -> None:
        text = "a\u2028b\u0085c\x0bd\x1ce\r\nf 🎛️ \\ \"\u0001"
        await self.chat.send(text)
        [event] = await take(self.chat.follow(after=0), 1)
        self.assertEqual(event.data.message, text)
        self.assertEqual([message.message async for message in self.chat.messages()], [text])

    async def test_an_after_beyond_the_head_is_a_reset(self) -> None:
        await self.chat.send("one")
        events = await take(self.chat.follow(after=7), 2)
        epoch = (await self.chat.history()).epoch
        self.assertEqual(events[0], {"event": "reset", "seq": 1, "epoch": epoch})
        self.assertIsNone(events[0].data)
        self.assertEqual((events[1].event, events[1].seq), ("message.created", 1))

    async def test_another_epoch_is_a_reset(self) -> None:
        await self.chat.send("one")
        events = await take(self.chat.follow(after=1, epoch="another"), 2)
        self.assertEqual([event.event for event in events], ["reset", "message.created"])

    async def test_a_token_that_ends_is_replaced(self) -> None:
        asked = 0

        async def token() -> str:
            nonlocal asked
            asked += 1
            return sign("alice", "user", 2)

        reader = await self.open(token)
        feed = reader.chat(self.mission.id, self.name).follow(after=0)
        await self.chat.send("one")
        await take(feed, 1)
        await asyncio.sleep(2.5)
        await self.chat.send("two")
        self.assertEqual([event.seq for event in await take(feed, 1)], [2])
        self.assertGreaterEqual(asked, 2)

    async def test_it_ends_when_the_chat_cannot_be_seen_any_more(self) -> None:
        await self.chat.send("one")
        feed = self.chat.follow(after=0)
        await take(feed, 1)
        await self.admin.mission(self.mission.id).patch(assigned_to="bob")
        with self.assertRaises(DeckError) as caught:
            await take(feed, 1)
        self.assertEqual((caught.exception.code, caught.exception.status), ("not_found", 404))

    async def test_clearing_is_an_event(self) -> None:
        await self.chat.send("one")
        await self.admin.chat(self.mission.id, self.name).clear()
        [event] = await take(self.chat.follow(after=0), 1)
        self.assertEqual((event.event, event.seq, event.data.by), ("chat.cleared", 2, "root"))

    async def test_a_loop_that_is_left_closes_its_connection(self) -> None:
        wire = await self.wire()
        reader = await self.open(self.user_token, wire.url)
        await self.chat.send("one")
        async for _ in reader.chat(self.mission.id, self.name).follow(after=0):
            break
        await until(lambda: wire.connections() == 0, "the connection to close")

    async def test_closing_the_deck_ends_it(self) -> None:
        reader = await self.open(self.user_token)
        seen: list[int] = []

        async def follow() -> None:
            async for event in reader.chat(self.mission.id, self.name).follow(after=0):
                seen.append(event.seq)

        following = asyncio.ensure_future(follow())
        await self.chat.send("one")
        await until(lambda: seen == [1], "the event")
        await reader.close()
        await asyncio.wait_for(following, 10)


class MessagesTest(DeckTest):
    async def test_every_message_through_cuts(self) -> None:
        # Over 8 MiB: more than the buffers of the sockets hold, so that cuts hit the stream.
        text = "x" * 9_990
        for n in range(0, 900, 300):
            await asyncio.gather(*(self.chat.send(f"{i:4} {text}") for i in range(n, n + 300)))
        wire = await self.wire()
        reader = await self.open(self.user_token, wire.url)
        seen: list[Any] = []
        async for message in reader.chat(self.mission.id, self.name).messages():
            seen.append(message)
            if message.seq in (100, 400):
                wire.cut()
            if message.seq == 500:
                await self.chat.send("newer than the start")
        self.assertEqual([message.seq for message in seen], list(range(1, 901)))
        self.assertEqual(seen[899].message[:4], " 899")

    async def test_bounds_and_filters(self) -> None:
        for text in ("one", "two apples", "three apples", "four"):
            await self.chat.send(text)
        found = [message.seq async for message in self.chat.messages(q="apples")]
        self.assertEqual(found, [2, 3])
        found = [message.seq async for message in self.chat.messages(after=1, before=4)]
        self.assertEqual(found, [2, 3])
