"""Tokens on their way to another pepper: in batches, never waited for, and what fails is only put off."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from msgspec.structs import replace

from sidecar.credentials.token_row import TokenRow
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.store.pepper_moves import BATCH, PepperMoves
from sidecar.store.token_store import TokenStore
from tests.unit.test_token_row import FIRST


class Shelf:
    """A store that remembers what was written, or can't be written to."""

    def __init__(self, *failures: Exception) -> None:
        self.written: list[list[str]] = []
        self.failures = list(failures)
        self.tried = asyncio.Event()

    async def move(self, rows: Sequence[tuple[TokenRow, TokenRow]]) -> None:
        self.tried.set()
        if self.failures:
            raise self.failures.pop(0)
        self.written.append([old.id for old, _ in rows])


def moves(shelf: Shelf) -> PepperMoves:
    return PepperMoves(cast(TokenStore, shelf), pause=0.01)


def token(number: int) -> TokenRow:
    return replace(FIRST, id=f"{number:012}")


async def test_what_gathers_is_written_at_once_and_each_token_once() -> None:
    shelf = Shelf()
    waiting = moves(shelf)
    for number in (1, 2, 1):
        waiting.add(token(number), token(number))
    await waiting.flush()
    await waiting.flush()
    assert shelf.written == [[token(1).id, token(2).id]]


async def test_a_flood_is_cut_off_and_finds_its_way_later() -> None:
    shelf = Shelf()
    waiting = moves(shelf)
    for number in range(BATCH + 10):
        waiting.add(token(number), token(number))
    await waiting.flush()
    assert len(shelf.written[0]) == BATCH
    waiting.add(token(BATCH + 1), token(BATCH + 1))
    await waiting.flush()
    assert shelf.written[1] == [token(BATCH + 1).id]


async def test_an_outage_or_a_defect_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(Unavailable(Reason.TOKEN_STORE_UNAVAILABLE, "locked"), ValueError("not foreseen"))
    waiting = moves(shelf)
    waiting.start()
    async with asyncio.timeout(20):
        for number in range(3):
            shelf.tried.clear()
            waiting.add(token(number), token(number))
            await shelf.tried.wait()
    await waiting.stop()
    assert shelf.written == [[token(2).id]]
    assert "stay under an earlier pepper, or without their owner's id, for now: locked" in caplog.text


async def test_the_end_writes_what_is_left() -> None:
    shelf = Shelf()
    waiting = moves(shelf)
    waiting.add(token(1), token(1))
    await waiting.stop()
    assert shelf.written == [[token(1).id]]
