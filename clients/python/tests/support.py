"""A server, tokens, missions, and a proxy that cuts connections.

With DECK_URL and JWT_SECRET the tests use that server, whose rate limits must be off. Without them they
start one with an embedded database: run `npm ci` and `npm run compile` once, then here
`python3 -m unittest`.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import unittest
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from mission_deck import Deck, Mission

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def _start_server() -> tuple[str, str]:
    data = tempfile.mkdtemp(prefix="mission-deck-python-")
    secret = secrets.token_hex(32)
    process = subprocess.Popen(
        ["node", "dist/main.js"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATA_DIR": data,
            "JWT_SECRET": secret,
            "PORT": "0",
            "RATE_LIMITS": "off",
            "LOG_LEVEL": "warn",
        },
        stdout=subprocess.PIPE,
        text=True,
    )

    def stop() -> None:
        process.terminate()
        process.wait()
        shutil.rmtree(data, ignore_errors=True)

    atexit.register(stop)
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"Mission Deck is at (\S+)", line):
            return found[1], secret
    raise RuntimeError("the server did not start")


URL = os.environ.get("DECK_URL", "")
SECRET = os.environ.get("JWT_SECRET", "")
if not URL:
    URL, SECRET = _start_server()


def sign(sub: str, role: str, seconds: float = 3600, **claims: Any) -> str:
    """Signs a token."""
    now = time.time()
    payload = {"sub": sub, "role": role, "iat": int(now), "exp": now + seconds, **claims}
    parts = [{"alg": "HS256", "typ": "JWT"}, payload]
    text = ".".join(_encode(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_encode(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, limit: float = 30) -> None:
    """Waits for a condition."""
    end = time.monotonic() + limit
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        await asyncio.sleep(0.02)


class Wire:
    """A TCP proxy between clients and the server."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.refusing = False
        self.cuts = 0
        #: answers of requests whose bytes contain the first item are lost, that many times
        self.lost: dict[bytes, int] = {}
        self._pairs: set[Pair] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def connections(self) -> int:
        return len(self._pairs)

    def cut(self) -> None:
        """Cuts all connections."""
        self.cuts += 1
        for pair in list(self._pairs):
            pair.cut()

    def swallow(self) -> None:
        """Discards what the server sends on the open connections, and keeps them open."""
        for pair in self._pairs:
            pair.hole = True

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await until(lambda: not self._pairs, "the proxy to close")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        url = urlsplit(self.target)
        try:
            far = await asyncio.open_connection(url.hostname, url.port)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(self, (reader, writer), far)
        self._pairs.add(pair)
        try:
            await asyncio.gather(pair.forward(), pair.back())
        finally:
            pair.cut()
            self._pairs.discard(pair)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pair:
    """A connection of a client, and its connection to the server."""

    def __init__(self, wire: Wire, near: Stream, far: Stream) -> None:
        self.wire = wire
        self.near = near
        self.far = far
        self.hole = False
        self.losing = False

    def cut(self) -> None:
        for _, writer in (self.near, self.far):
            writer.transport.abort()

    async def forward(self) -> None:
        while data := await self._read(self.near[0]):
            for part, left in self.wire.lost.items():
                if left > 0 and part in data:
                    self.wire.lost[part] -= 1
                    self.losing = True
            self.far[1].write(data)
        self.cut()

    async def back(self) -> None:
        while data := await self._read(self.far[0]):
            if self.losing:
                break
            if not self.hole:
                self.near[1].write(data)
        if not self.hole:
            self.cut()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(65536)
        except OSError:
            return b""


class DeckTest(unittest.IsolatedAsyncioTestCase):
    """A test with a mission of its own, the decks of a user, a citizen and an admin, and a proxy."""

    async def asyncSetUp(self) -> None:
        # A citizen for each test: its inbox has no other questions.
        self.name = f"agent-{secrets.token_hex(6)}"
        self.admin = await self.open(sign("root", "admin"))
        self.mission: Mission = await self.admin.missions.create(
            title="Telegram Notifier",
            client="Acme Corp",
            budget=300,
            deadline="2030-01-01T00:00:00Z",
            assigned_to="alice",
        )
        self.user_token = sign("alice", "user")
        self.citizen_token = sign(self.name, "citizen")
        self.user = await self.open(self.user_token)
        self.citizen = await self.open(self.citizen_token)
        self.chat = self.user.chat(self.mission.number, self.name)

    async def open(self, token: Any, url: str = URL, **options: Any) -> Deck:
        deck = Deck(url, token, **options)
        self.addAsyncCleanup(deck.close)
        return deck

    async def wire(self) -> Wire:
        wire = Wire(URL)
        await wire.start()
        self.addAsyncCleanup(wire.close)
        return wire

    def cutting(self, wire: Wire, every: float) -> None:
        """Cuts the proxy's connections again and again until the test ends."""

        async def cut() -> None:
            while True:
                await asyncio.sleep(every)
                wire.cut()

        self.background(cut())

    def background(self, work: Any) -> asyncio.Task[Any]:
        """Runs beside the test, and is cancelled at its end."""
        task = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            await asyncio.wait({task})

        self.addAsyncCleanup(end)
        return task
