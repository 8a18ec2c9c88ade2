# A citizen in Python, with the standard library only and without a socket: it claims questions over HTTP, shows its reply as it is written,
# and replies.
#   DECK_TOKEN=… python3 examples/echo.py        (a token of the citizen: npx mission-deck token rafael citizen)
import json, os, time, urllib.request

URL = os.environ.get("DECK_URL", "http://127.0.0.1:3000")
INBOX = f"{URL}/api/inbox/{os.environ.get('CITIZEN', 'rafael')}"
HEADERS = {"Authorization": "Bearer " + os.environ["DECK_TOKEN"], "Content-Type": "application/json"}


def post(path, **body):
    request = urllib.request.Request(f"{INBOX}/{path}", json.dumps(body).encode(), HEADERS)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or "null")


def answer(question):
    task = f"tasks/{question['task']}"
    words = f"You asked {json.dumps(question['message']['message'], ensure_ascii=False)}. That is a good question.".split(" ")
    for n in range(len(words)):  # offset 0 starts over: an earlier attempt may have left a draft
        start = {"offset": 0} if n == 0 else {}
        if post(f"{task}/draft", claim=question["claim"], delta=words[n] + " ", **start)["cancelled"]:
            return post(f"{task}/done", claim=question["claim"])
    post(f"{task}/reply", claim=question["claim"], message=" ".join(words))


while True:
    try:
        for question in post("claim", wait=50)["tasks"]:
            answer(question)
    except OSError as error:  # a restart, or a claim that was lost: the task comes again
        print(error, flush=True)
        time.sleep(1)
