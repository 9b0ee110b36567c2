"""A store's answer as the parser reads it, piece by piece, on its way to the client.

What is called within `feed_data` never raises: a failure is kept, and ends the exchange when the parser has returned.
"""

import asyncio

import httptools

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.ports import Downstream
from sidecar.reasons import Reason

_INTERIM_LIMIT = 16
_NO_BODY = frozenset({204, 304})


class Answer:
    """The half of a `Connection` that reads."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._wake: asyncio.Future[None] | None = None
        self._client: Downstream | None = None
        self._sending = False
        self.reusable = True
        """Whether another exchange may follow. Never again after an oddity."""
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        """What the store answered; 0 before."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._length: int | None = None
        self._remaining = 0
        self._started = False
        self._complete = False
        self._interim = False
        self._interims = 0
        self._until_eof = False
        self._failure: BaseException | None = None

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._started:  # later ones are trailers
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._failure is not None or self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interims += 1
            if status == 101 or self._interims > _INTERIM_LIMIT:
                self._fail(broken(f"interim answers without end, or a switch of protocols ({status})"))
            self._interim, self._headers = True, []
            return
        self._interim = False
        self.status = status
        chunked = False
        for name, value in self._headers:
            size = len(name)
            if size == 14 and name.lower() == b"content-length":
                self._length = int(value)
            elif size == 17 and name.lower() == b"transfer-encoding":
                chunked = True
                if value.strip().lower() != b"chunked":
                    self._fail(broken("a transfer coding other than chunked"))
                    return
        client = self._client
        assert client is not None
        bodiless = client.method == "HEAD" or status in _NO_BODY
        self._until_eof = not bodiless and not chunked and self._length is None
        self._remaining = 0 if bodiless else self._length or 0
        try:
            client.start(status, self._headers, self._length)
        except (Refused, ClientGone) as error:
            self._fail(error)
            return
        self._started = True
        if bodiless:
            # The parser can't be told that HEAD has no body: it ends here, and with it the parser.
            # Where a body was announced, a careless store sends it all the same, and late: it would be the next answer.
            keep_alive = self._parser.should_keep_alive() and not self._length and not chunked
            self._parser = httptools.HttpResponseParser(self)
            self._complete_exchange(keep_alive)

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self.reusable = False
        elif self._failure is None:
            self._remaining -= len(data)
            try:
                self._client.write(data)  # type: ignore[union-attr]  # data arrives only while a client is set
            except (Refused, ClientGone) as error:
                self._fail(error)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete and self._failure is None:
            self._complete_exchange(self._parser.should_keep_alive())

    def _malformed(self, what: str) -> None:
        if self._complete:
            self.reusable = False  # the answer was whole; what follows it is not
        else:
            self._fail(broken(f"not HTTP: {what}"))

    def _complete_exchange(self, keep_alive: bool) -> None:
        self.reusable = self.reusable and keep_alive and not self._sending
        self._finish()

    def _finish(self) -> None:
        self._complete = True
        try:
            self._client.finish()  # type: ignore[union-attr]  # an exchange is finished only while a client is set
        except (Refused, ClientGone) as error:
            self._failure = error
        self._awaken()

    def _fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
            self.reusable = False
        self._awaken()

    def _awaken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def broken(detail: str) -> Unavailable:
    return Unavailable(Reason.UPSTREAM_BROKEN, detail)
