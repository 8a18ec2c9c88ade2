# A citizen on any endpoint that streams as OpenAI's chat completions do.
#   pip install ./clients/python
#   DECK_TOKEN=… OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_API_KEY=… MODEL=… python3 examples/openai_agent.py
import asyncio
import json
import os

import httpx
from mission_deck import Deck

URL = os.environ.get("DECK_URL", "http://127.0.0.1:3000")
CITIZEN = os.environ.get("CITIZEN", "rafael")
ENDPOINT = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
KEY = os.environ.get("OPENAI_API_KEY", "")
MODEL = os.environ.get("MODEL", "")


async def complete(http, messages):
    """Yields the parts of an answer: each event is a line `data: {…}`, the last one `data: [DONE]`."""
    body = {"model": MODEL, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"authorization": f"Bearer {KEY}"}
    async with http.stream("POST", f"{ENDPOINT}/chat/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        rest = b""
        async for part in response.aiter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            for line in map(bytes.strip, lines):
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    yield json.loads(line[6:])


async def main():
    async with Deck(URL, os.environ["DECK_TOKEN"]) as deck, httpx.AsyncClient(timeout=60) as http:

        @deck.citizen(CITIZEN).answer
        async def answer(question, reply):
            # What was said before the question, and the question.
            chat = deck.chat(question.mission_id, CITIZEN)
            page = await chat.history(before=question.seq + 1, limit=20)
            said = [
                {"role": "user" if message.sender == "user" else "assistant", "content": message.message}
                for message in page.messages
            ]
            asking = reply.activity(f"Asks {MODEL}")
            usage = None
            async for part in complete(http, said):
                for choice in part["choices"][:1]:
                    if words := choice["delta"].get("content"):
                        asking.done()
                        reply.write(words)
                usage = part.get("usage") or usage
            if reply.text:
                await reply.done(usage=usage)

        await deck.run()


asyncio.run(main())
