"""Settings as an operator writes them, and what is said about mistakes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.config.settings import (
    AddressPoolSettings,
    BootSettings,
    HistorySettings,
    HostSettings,
    IdSettings,
    RouteSettings,
    Settings,
    ShutdownSettings,
    parse_settings,
)
from osctld.core.errors import Refused

FILE = "/etc/osctl/osctld.toml"


def test_nothing_written_means_the_defaults() -> None:
    assert parse_settings("", file=FILE) == Settings()
    assert parse_settings("# only a comment\n[routes]\n", file=FILE) == Settings()
    assert (Settings().routes.announce_protocol, Settings().routes.present_protocol) == (111, 112)
    assert Settings().routes.ipv6_metric == 8
    assert Settings().host.manage_forwarding
    assert Settings().host.link_group == 111


def test_every_setting_is_read() -> None:
    text = """
        [routes]
        announce_protocol = 201
        present_protocol = 202
        ipv6_metric = 16
        [ids]
        first = 1000000
        last = 2000000
        [host]
        manage_forwarding = false
        uplinks = ["eth0", "eth1.100"]
        link_group = 7
        [boot]
        at_once = 3
        [shutdown]
        timeout = 60
        [history]
        days = 400
        lines = 5000
        [addresses.web]
        networks = ["198.51.100.0/24", "2001:db8:2::/64"]
        quiet_seconds = 60
    """

    assert parse_settings(text, file=FILE) == Settings(
        RouteSettings(201, 202, 16),
        IdSettings(1000000, 2000000),
        HostSettings(False, ("eth0", "eth1.100"), 7),
        boot=BootSettings(3),
        shutdown=ShutdownSettings(60),
        history=HistorySettings(400, 5000),
        addresses={"web": AddressPoolSettings(("198.51.100.0/24", "2001:db8:2::/64"), 60)},
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[routes]\nipv6_metric = 8\nmetric = 9", 3, "unknown setting 'routes.metric'"),
        ("# metric\n[routes]\n\nmetric = 9", 4, "unknown setting 'routes.metric'"),
        ("ipv6_metric = 8", 1, "unknown setting 'ipv6_metric'"),
        ("[routes]\nipv6_metric = 8\n[host]\nipv6_metric = 9", 4, "unknown setting 'host.ipv6_metric'"),
        ("\n[route]\nipv6_metric = 8", 2, "unknown setting 'route'"),
        ("\nroutes.metric = 8", 2, "unknown setting 'routes.metric'"),
        ("\nroutes = { metric = 8 }", 2, "unknown setting 'routes.metric'"),
        ('[routes]\n\n"metric" = 8', 3, "unknown setting 'routes.metric'"),
        ("[routes]\nipv6_metric = 'low'", 2, "routes.ipv6_metric = 'low': expected int, got str"),
        ("[routes]\nipv6_metric = 1.5", 2, "routes.ipv6_metric = 1.5: expected int, got float"),
        ("[routes]\nipv6_metric = true", 2, "routes.ipv6_metric = True: expected int, got bool"),
        ("[host]\n\nmanage_forwarding = 1", 3, "host.manage_forwarding = 1: expected bool, got int"),
        ("[host]\nuplinks = 'eth0'", 2, "host.uplinks = 'eth0': expected array | null, got str"),
        ("[host]\nuplinks = ['eth0', 1]", 2, "host.uplinks = ['eth0', 1]: expected str, got int"),
        ("\nroutes = 5", 2, "routes = 5: expected object, got int"),
        ("[routes]\nannounce_protocol = 4", 2, "routes.announce_protocol: 4 is not a protocol number"),
        ("[routes]\npresent_protocol = 256", 2, "routes.present_protocol: 256 is not a protocol number"),
        ("[routes]\npresent_protocol = 111", 2, "111: announced and present routes need different"),
        ("[routes]\nannounce_protocol = 112", 1, "112: announced and present routes need different"),
        ("[routes]\nipv6_metric = 0", 2, "routes.ipv6_metric: 0 is not a metric"),
        ("[routes]\nipv6_metric = 4294967296", 2, "4294967296 is not a metric"),
        ("[routes]\nhost_source = ['192.0.2.1/24']", 2, "routes.host_source: '192.0.2.1/24' is not an IP address"),
        ("[routes]\nhost_source = ['ff02::1']", 2, "routes.host_source: ff02::1 is a multicast address"),
        ("[routes]\nhost_source = ['192.0.2.1', '192.0.2.3']", 2, "192.0.2.3 is a second IPv4 address"),
        ("[boot]\nat_once = 0", 2, "boot.at_once: 0 is not a number from 1 to 1000"),
        ("[shutdown]\n\ntimeout = 1201", 3, "shutdown.timeout: 1201 is not a number of seconds from 0 to 1200"),
        ("[host]\nlink_group = 0", 2, "host.link_group: 0 is not a group number"),
        ("[history]\ndays = -1", 2, "history.days: -1 is less than 0"),
        ("[history]\nlines = 99", 2, "history.lines: 99 is less than 100"),
        ("[addresses.web]\nnets = []", 2, "unknown setting 'addresses.web.nets'"),
        ("[addresses]\nweb = 5", 1, "addresses = {'web': 5}: expected object, got int"),
        ('[addresses."a b"]\nnetworks = []', 1, "'a b' is not a valid name (expected 1 to 100"),
        ("[addresses.web]\nquiet_seconds = -1", 2, "addresses.web.quiet_seconds: -1 is less than 0"),
        ("[addresses.web]\nnetworks = ['10.0.0.0/33']", 2, "networks: '10.0.0.0/33' is not an IP network"),
        ("[addresses.web]\nnetworks = ['127.0.0.0/30']", 2, "127.0.0.0/30 cannot be routed, it overlaps loopback"),
        (
            "[addresses.a]\nnetworks = ['10.0.0.0/24']\n[addresses.b]\nnetworks = ['10.0.0.128/25']",
            4,
            "10.0.0.128/25 overlaps 10.0.0.0/24 of addresses.a",
        ),
        ("[host]\nlink_group = -5", 2, "-5 is not a group number"),
        ("[ids]\nfirst = 0", 2, "ids 0 to "),
        ("[ids]\nfirst = 100000\nlast = 165534", 2, "ids 100000 to 165534 do not include a range of 65536"),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_value(text: str, line: int, says: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_settings(text, file=FILE)

    assert refused.value.message.startswith(f"{FILE}:{line}: ")
    assert says in refused.value.message
    assert refused.value.code == "bad-settings"


def test_what_is_no_toml_is_refused_with_file_and_line() -> None:
    with pytest.raises(Refused, match=rf"{FILE}: .*line 2"):
        parse_settings("[routes]\nipv6_metric 8\n", file=FILE)
    with pytest.raises(Refused, match=rf"{FILE}: .*line 3"):
        parse_settings("[routes]\nipv6_metric = 8\nipv6_metric = 8\n", file=FILE)


known_lines = st.sampled_from(
    ["", "# colour = 1", "ipv6_metric = 9", "announce_protocol = 120", "present_protocol = 121 # colour"]
)


@given(st.lists(known_lines, unique=True), st.sampled_from(["colour", "metric", "protocol", "ipv6"]), st.data())
def test_an_unknown_key_is_found_on_its_line_among_similar_ones(
    lines: list[str], key: str, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(lines)))
    text = "\n".join(["[routes]", *lines[:position], f"  {key}  = 1", *lines[position:]])

    with pytest.raises(Refused, match=rf"{FILE}:{position + 2}: unknown setting 'routes\.{key}'"):
        parse_settings(text, file=FILE)


@given(st.text())
def test_any_text_is_settings_or_refused(text: str) -> None:
    try:
        parse_settings(text, file=FILE)
    except Refused as refused:
        message = refused.message
    else:
        message = f"{FILE}: fine"

    assert message.startswith(f"{FILE}:")
    assert "\n" not in message
