"""The client's one error."""

from __future__ import annotations


class DeckError(Exception):
    """An error with a stable code. Programs decide by the code.

    Codes are the server's (`bad_request`, `unauthorized`, `forbidden`, `not_found`, `conflict`,
    `too_large`, `rate_limited`, `internal`, `unavailable`) and codes of this client. `overloaded`:
    the queue of unsent messages is full. `closed`: the deck was closed. `expired`, `withdrawn`: a
    request to people ended without an answer. No error contains a token.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        status: int | None = None,
        *,
        retry_after: float | None = None,
        error_id: str | None = None,
        seq: int | None = None,
        epoch: str | None = None,
        offset: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        #: HTTP status; None if the error is not the server's
        self.status = status
        #: seconds to wait
        self.retry_after = retry_after
        #: ID of an `internal` error in the server's log
        self.error_id = error_id
        #: of a `conflict` when following: the topic's latest seq, and the epoch
        self.seq = seq
        self.epoch = epoch
        #: of a `conflict` of drafts: the right offset
        self.offset = offset
        #: key of a message without an answer: sending it again under this key is safe
        self.key = key

    @property
    def passing(self) -> bool:
        """Whether the error is transient: the same request may be sent again."""
        return self.code in ("unavailable", "rate_limited")
