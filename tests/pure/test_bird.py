"""What is written for BIRD, and what its answers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from osctld.announce import bird
from osctld.announce.bird import Channel, Session
from osctld.core.config.settings import parse_settings

GOLDEN = Path(__file__).parent / "golden" / "bird"


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.toml")), ids=lambda each: each.stem)
def test_the_file_is_as_it_was(case: Path) -> None:
    """To take over an intended change, write what this test shows; test_announcing feeds such files to BIRD itself."""
    settings = parse_settings(case.read_text(), file=case.name)
    passwords = {name: "correct horse" for name, each in settings.neighbors.items() if each.password_file}
    assert bird.configuration(settings, passwords) == case.with_suffix(".conf").read_text()


def test_there_are_cases() -> None:
    assert len(list(GOLDEN.glob("*.toml"))) >= 3


def test_a_password_is_concealed_where_it_is_shown() -> None:
    text = (GOLDEN / "everything.conf").read_text()
    assert "correct horse" in text
    shown = bird.without_passwords(text)
    assert "correct horse" not in shown
    assert shown.count(f'password "{bird.CONCEALED}";') == text.count("  password ")


@pytest.mark.parametrize(
    ("text", "is_included"),
    [
        ('include "/etc/bird/osctl.conf";', True),
        ('include "osctl.conf";', True),
        ('router id 1.2.3.4;\n  include   "/etc/bird/*.conf" ;', True),
        ('#include "/etc/bird/osctl.conf";', False),
        ('include "/etc/bird/other.conf";', False),
        ("", False),
    ],
)
def test_an_include_is_found(text: str, is_included: bool) -> None:
    assert bird.includes(text, "/etc/bird/osctl.conf", of="/etc/bird/bird.conf") is is_included


def test_another_file_is_included_for_a_check() -> None:
    text = 'include "osctl.conf";\ninclude "local/peers.conf";\n# include "osctl.conf";\n'
    assert bird.including(text, "/etc/bird/osctl.conf", "/new", of="/etc/bird/bird.conf") == (
        'include "/new";\ninclude "/etc/bird/local/peers.conf";\n# include "osctl.conf";\n'
    )


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("correct horse", None),
        ("", "is empty"),
        ("x" * 81, "is longer than 80 bytes"),
        ('a"b', "contains a quote, a backslash or a control character"),
        ("a\tb", "contains a quote, a backslash or a control character"),
    ],
)
def test_a_password_that_cannot_be_written_is_refused(password: str, reason: str | None) -> None:
    assert bird.reason_unfit(password) == reason


@pytest.mark.parametrize(
    ("greeting", "version"),
    [
        ("BIRD 2.0.12 ready.", (2, 0, 12)),
        ("BIRD v2.17.6 ready.", (2, 17, 6)),
        ("BIRD 3.3.2 ready.", (3, 3, 2)),
        ("BIRD 2.14 ready.", (2, 14, 0)),
        ("hello", None),
    ],
)
def test_versions(greeting: str, version: tuple[int, int, int] | None) -> None:
    assert bird.version_of(greeting) == version


OF_BIRD_2 = """\
Name       Proto      Table      State  Since         Info
osctl4_kernel Kernel     osctl4     up     21:00:00.100
  Channel ipv4
    State:          UP
    Routes:         3 imported, 0 exported, 3 preferred
osctl_r4   BGP        ---        up     21:00:01.293  Established
  BGP state:          Established
    Neighbor address: 192.0.2.2
  Channel ipv4
    State:          UP
    Table:          osctl4
    Routes:         0 imported, 2 exported, 0 preferred
    Export limit:   1000
      Action:       warn
  Channel ipv6
    State:          UP
    Routes:         1 imported, 5 exported, 0 preferred
osctl_r6   BGP        ---        start  2026-11-30    Active        Socket: Connection refused
""".splitlines()

#: Of 3.1: the date and the time of day, and routes that were filtered.
OF_BIRD_3 = """\
Name       Proto      Table      State  Since         Info
osctl_r4   BGP        ---        up     2026-11-30 21:00:01  Established
  Channel ipv4
    State:          UP
    Import state:   UP
    Routes:         0 imported, 0 filtered, 2 exported, 0 preferred
""".splitlines()


def test_sessions_of_bird_2() -> None:
    found = bird.sessions(OF_BIRD_2)
    assert found["osctl_r4"] == Session("up", "21:00:01.293", "Established", {4: Channel(2, 0), 6: Channel(5, 1)})
    assert found["osctl_r6"] == Session("start", "2026-11-30", "Active Socket: Connection refused", {})
    assert found["osctl4_kernel"].is_up
    assert "Name" not in found


def test_sessions_of_bird_3() -> None:
    assert bird.sessions(OF_BIRD_3)["osctl_r4"] == Session(
        "up", "2026-11-30 21:00:01", "Established", {4: Channel(2, 0)}
    )


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (("3 of 3 routes for 2 networks in table osctl4",), 2),
        (("0 of 0 routes for 0 networks in table osctl4", "Total: 0 of 0 routes for 0 networks in 1 tables"), 0),
        (("",), 0),
        ((), 0),
    ],
)
def test_counts(lines: tuple[str, ...], count: int) -> None:
    assert bird.counted(lines) == count
