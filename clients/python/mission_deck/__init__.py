"""A client for Mission Deck: chats that are followed exactly once, and agents that answer."""

from .chat import Chat
from .deck import CitizenHandle, Deck
from .errors import DeckError
from .http import Token
from .inbox import Handler
from .reply import Reply, Step
from .resources import DodList, MissionHandle, MissionList, RequestList, TestRunList
from .rows import (
    Channel,
    Checklist,
    Citizen,
    CodeBlock,
    DodItem,
    Event,
    History,
    Message,
    Mission,
    Missions,
    Progress,
    Question,
    Questions,
    Request,
    Requests,
    Row,
    TestRun,
    TestRuns,
)
from .streams import Feed, Stream

__all__ = [
    "Channel", "Chat", "Checklist", "Citizen", "CitizenHandle", "CodeBlock", "Deck", "DeckError",
    "DodItem", "DodList", "Event", "Feed", "Handler", "History", "Message", "Mission",
    "MissionHandle", "MissionList", "Missions", "Progress", "Question", "Questions", "Reply",
    "Request", "RequestList", "Requests", "Row", "Step", "Stream", "TestRun", "TestRunList",
    "TestRuns", "Token",
]
