"""The page about clients is what was seen: made of the results, all of them, and of nothing else."""

import re

from tests.clients.expected import expected
from tests.clients.page import CAME, PAGE, SITUATIONS, STORES, read, render
from tests.clients.real.every import CLIENTS

NAMES = [each.name for each in CLIENTS]


def test_the_page_is_made_of_the_results() -> None:
    assert PAGE.read_text() == render(read()), "make test-clients, or python -m tests.clients.page, writes it"


def test_every_client_was_seen_in_every_situation_before_every_store() -> None:
    seen = read()["seen"]
    assert set(seen) == set(read()["versions"]) == set(NAMES)
    for client, situations in seen.items():
        assert set(situations) == set(SITUATIONS), client
        for situation, stores in situations.items():
            assert set(stores) == set(STORES), (client, situation)


def test_what_was_seen_is_what_is_expected() -> None:
    for client, situations in read()["seen"].items():
        for situation, stores in situations.items():
            for seen in stores.values():
                exit_status, came, words = expected(situation, client)
                assert (seen["exit_status"], seen["came"]) == (exit_status, came), (client, situation)
                assert any(words in line for line in seen["said"]) if words else not seen["said"], (client, situation)
                assert came in CAME


def test_nothing_of_one_machine_is_on_the_page() -> None:
    assert re.findall(r"127\.0\.0\.1|/(?:tmp|root|home)/|checkouts|\b[0-9a-f]{16,}\b", PAGE.read_text()) == []
