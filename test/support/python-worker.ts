// A worker of the Python client for faults/kills.ts. A killed worker's lease is as short as leases may be.
import { client, python } from './python.ts'

const script = `
import asyncio, json, os, random
from mission_deck import Deck

def say(line):
    print(json.dumps(line), flush=True)

async def main():
    async with Deck(os.environ["URL"], os.environ["TOKEN"]) as deck:
        @deck.citizen("rafael").answer(lease=10)
        async def handler(question, reply):
            say({"task": question.id, "attempt": reply.attempt})
            for delta in ("re: ", question.message, " ", "🎛️"):
                reply.write(delta)
                await asyncio.sleep(0.01 + random.random() * 0.04)
        await deck.run()

asyncio.run(main())
`
export const pythonWorker = {
  script,
  command: [python ?? '', '-c', script],
  env: { PYTHONPATH: client, PYTHONDONTWRITEBYTECODE: '1' },
  workers: 2,
}
