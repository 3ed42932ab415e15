"""What a person reads when something is refused."""

from __future__ import annotations

import pytest

from osctld.core.errors import Refused


@pytest.mark.parametrize(
    ("message", "subject", "typed", "read"),
    [
        ("1.2.3.4: already assigned", "1.2.3.4/32", "1.2.3.4", "1.2.3.4: already assigned"),
        ("1.2.3.4: already assigned", "1.2.3.4/32", "1.2.3.4/32", "1.2.3.4/32: already assigned"),
        ("fd00::1: already assigned", "fd00::1/128", "FD00:0::1", "FD00:0::1: fd00::1: already assigned"),
        ("10.0.0.1 is the host's", "10.0.0.1/32", "10.0.0.1/32", "10.0.0.1/32: 10.0.0.1 is the host's"),
    ],
)
def test_a_refusal_quotes_what_was_typed_once(message: str, subject: str, typed: str, read: str) -> None:
    refused = Refused(message, subject=subject, code="some").quoting(typed)

    assert refused.message == read
    assert (refused.subject, refused.code) == (subject, "some")


def test_a_message_is_one_line() -> None:
    assert Refused("two\nlines").message == "two lines"
