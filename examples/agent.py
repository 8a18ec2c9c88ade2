# A citizen in steps, as agent frameworks have them: a small graph of async functions on a shared state, each shown while it runs. It plans,
# looks into the mission, asks people before a risky step, and answers. Replace the bodies of the steps with your model's calls.
#   pip install ./clients/python
#   DECK_TOKEN=… python3 examples/agent.py        (a token of the citizen: npx mission-deck token rafael citizen)
import asyncio
import os

from mission_deck import Deck

URL = os.environ.get("DECK_URL", "http://127.0.0.1:3000")
CITIZEN = os.environ.get("CITIZEN", "rafael")


async def plan(state, deck, reply):
    state["risky"] = "deploy" in state["question"].message.lower()
    return "look"


async def look(state, deck, reply):
    mission = state["question"].mission_id
    state["title"] = (await deck.mission(mission).get()).title
    state["open"] = [item for item in (await deck.dod(mission).list()).items if not item.completed]
    return "confirm" if state["risky"] else "write"


async def confirm(state, deck, reply):
    # The task waits for people, also across restarts; meanwhile this worker answers others.
    state["go"] = await reply.ask(kind="approve", title=f"Deploy {state['title']}?")
    return "write"


async def write(state, deck, reply):
    text = f"{state['title']} has {len(state['open'])} open items."
    if state["risky"]:
        text += " I deploy it." if state["go"] else " I do not deploy it."
    for word in text.split(" "):
        reply.write(word + " ")
        await asyncio.sleep(0.03)
    return None


GRAPH = {
    "plan": ("Plans", plan),
    "look": ("Looks into the mission", look),
    "confirm": ("Asks before the deployment", confirm),
    "write": ("Writes the answer", write),
}


async def main():
    async with Deck(URL, os.environ["DECK_TOKEN"]) as deck:

        @deck.citizen(CITIZEN).answer
        async def answer(question, reply):
            state, name = {"question": question}, "plan"
            while name is not None:
                line, step = GRAPH[name]
                shown = reply.activity(line)
                try:
                    name = await step(state, deck, reply)
                except BaseException:
                    shown.failed()
                    raise
                shown.done()

        await deck.run()


asyncio.run(main())
