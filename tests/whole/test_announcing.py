"""Networks of running containers are announced by BIRD, in the right order, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.host import ROUTER_4, run, stays, wait_until
from whole.routers import HOST_AS, MAIN, ROUTER_AS, Announcing, announcing

GOLDEN = Path(__file__).parent.parent / "pure" / "golden" / "bird"
A4, B4, A6 = "198.19.5.1/32", "198.19.6.0/24", "2001:db8:5::1/128"


@pytest.fixture
def silent() -> Iterator[Announcing]:
    """`web` runs with an address of each version and a network; nothing is announced."""
    with announcing() as made:
        made.new_container("web", via=["10.100.10.100/30", "fd00:100::/126"], addresses=["198.19.5.1", "2001:db8:5::1"])
        made.osctl("ct", "netif", "route", "add", "web", "eth0", "198.19.6.0/24")
        yield made


@pytest.fixture
def announced(silent: Announcing) -> Announcing:
    """The same, announced, and the router knows."""
    silent.osctl("router", "enable", "bird")
    wait_until(lambda: silent.routes_at_router() == {A4, B4, A6}, "the router knows", seconds=30)
    return silent


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.conf")), ids=lambda each: each.stem)
def test_bird_accepts_what_is_written_for_it(case: Path, tmp_path: Path) -> None:
    main = tmp_path / "bird.conf"
    main.write_text(MAIN.format(router_id="192.0.2.1") + f'include "{case}";\n')
    run("bird", "-p", "-c", str(main))


def test_nothing_is_announced_before_it_is_enabled(silent: Announcing) -> None:
    stays(lambda: silent.copies() == set() and silent.routes_at_router() == set(), 1)
    assert silent.include.read_text() == ""
    assert silent.osctl("router", "show").stdout.strip() == "nothing is announced"


def test_what_a_running_container_has_is_announced_and_reached(announced: Announcing) -> None:
    assert announced.copies() == {A4, B4, A6}
    assert announced.ping(announced.R, "198.19.5.1") == 3
    assert announced.ping(announced.R, "2001:db8:5::1") == 3
    rows = announced.osctl_json("router", "show")
    assert [(each["neighbor"], each["state"], each["wanted"], each["sent"]) for each in rows] == [
        ("r4", "up", 2, 2),
        ("r6", "up", 1, 1),
    ]
    assert "router enable bird" in announced.osctl("history").stdout


def test_an_address_is_announced_and_withdrawn_live(announced: Announcing) -> None:
    announced.osctl("ct", "netif", "ip", "add", "web", "eth0", "198.19.5.2")
    wait_until(lambda: "198.19.5.2/32" in announced.routes_at_router(), "it is announced")

    announced.osctl("ct", "netif", "ip", "del", "web", "eth0", "198.19.5.2")

    assert "198.19.5.2/32" not in announced.copies()
    wait_until(lambda: announced.routes_at_router() == {A4, B4, A6}, "it is withdrawn, and nothing else")


def test_interconnecting_networks_and_what_is_not_allowed_stay_at_home(announced: Announcing) -> None:
    announced.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")
    announced.osctl("ct", "netif", "ip", "add", "web", "eth0", "198.19.5.3")
    wait_until(lambda: "198.19.5.3/32" in announced.routes_at_router(), "the allowed one is announced")
    assert announced.copies() == {A4, B4, A6, "198.19.5.3/32"}


def test_a_stop_withdraws_before_the_link_goes(announced: Announcing) -> None:
    with announced.watch_routes() as seen:
        announced.osctl("ct", "stop", "web")
        lines = seen()
    assert announced.copies() == set()
    wait_until(lambda: announced.routes_at_router() == set(), "it is withdrawn")
    gone = [line for line in lines if "Deleted" in line and "198.19.5.1 " in line]
    assert "table 1111" in gone[0], gone
    announced.osctl("ct", "start", "web")
    wait_until(lambda: announced.routes_at_router() == {A4, B4, A6}, "it is announced again")


def test_nothing_is_withdrawn_while_the_daemon_is_away(announced: Announcing) -> None:
    with announced.watch_routes() as seen:
        announced.kill_daemon()
        announced.start_daemon()
        wait_until(lambda: announced.osctl_json("router", "show")[0]["wanted"] == 2, "it has settled")
        assert not [line for line in seen() if "table 1111" in line]
    assert announced.routes_at_router() == {A4, B4, A6}


def test_copies_that_somebody_deletes_come_back(announced: Announcing) -> None:
    announced.ip(announced.H, "route", "flush", "table", "1111")
    wait_until(lambda: announced.copies() == {A4, B4, A6}, "they are back")
    wait_until(lambda: announced.routes_at_router() == {A4, B4, A6}, "the router has them")


@pytest.mark.parametrize("versions", ["4 and 6", "4"])
def test_a_link_that_goes_down_and_up_is_announced_again(announced: Announcing, versions: str) -> None:
    """The kernel tells of IPv6 routes that go with it, and of no IPv4 routes."""
    if versions == "4":
        announced.osctl("ct", "netif", "ip", "del", "web", "eth0", "2001:db8:5::1")
        announced.osctl("ct", "netif", "set", "--no-via", "6", "web", "eth0")
    expected = announced.copies()
    link = announced.veth("web")
    announced.ip(announced.H, "link", "set", link, "down")
    announced.ip(announced.H, "link", "set", link, "up")
    wait_until(lambda: announced.copies() == expected, "they are back")
    wait_until(lambda: announced.routes_at_router() == expected, "the router has them")


def test_disabling_withdraws_everything_and_leaves_an_empty_file(announced: Announcing) -> None:
    announced.osctl("router", "disable")
    assert announced.copies() == set()
    wait_until(lambda: announced.routes_at_router() == set(), "it is withdrawn")
    assert "osctl" not in announced.at_host.ask("show protocols")
    assert announced.include.read_text().startswith("# Written by osctld")
    announced.restart_daemon()
    stays(lambda: announced.copies() == set(), 0.5)


def test_disabling_works_without_bird(announced: Announcing) -> None:
    announced.at_host.end()

    told = announced.osctl("router", "disable").stdout

    assert "its file has been emptied" in told
    assert announced.copies() == set()
    announced.at_host.start()
    assert "osctl" not in announced.at_host.ask("show protocols")


def test_a_table_that_somebody_else_begins_to_use_is_told_and_left_until_it_is_free(announced: Announcing) -> None:
    announced.ip(announced.H, "route", "add", "203.0.113.7", "dev", "up0", "proto", "static", "table", "1111")
    wait_until(lambda: findings_of(announced), "it is told")
    (told,) = findings_of(announced)
    assert "table 1111 holds a route of somebody else: 203.0.113.7/32 proto 4" in told
    announced.osctl("ct", "netif", "ip", "add", "web", "eth0", "198.19.5.2")
    assert announced.copies() == {A4, B4, A6, "203.0.113.7/32"}

    announced.ip(announced.H, "route", "del", "203.0.113.7", "table", "1111")

    wait_until(lambda: announced.copies() == {A4, B4, A6, "198.19.5.2/32"}, "it goes on")
    assert findings_of(announced) == []


def test_an_address_that_moves_is_announced_at_every_moment(announced: Announcing) -> None:
    announced.new_container("db", via=["10.100.10.104/30"], addresses=["198.19.5.9"])
    wait_until(lambda: "198.19.5.9/32" in announced.copies(), "it is announced")
    with announced.watch_routes() as seen:
        announced.osctl("ct", "netif", "ip", "move", "web", "eth0", "db", "eth0", "198.19.5.1")
        link = announced.veth("db")
        wait_until(lambda: f"dev {link}" in announced.ip(announced.H, "route", "show", "198.19.5.1", "table", "1111"),
                   "it goes another way")  # fmt: skip
        assert not [line for line in seen() if "Deleted" in line and "198.19.5.1 " in line and "table 1111" in line]


def test_a_table_of_somebody_else_is_not_used(silent: Announcing) -> None:
    silent.ip(silent.H, "route", "add", "203.0.113.7", "dev", "up0", "proto", "static", "table", "1111")
    refusal = silent.refusal("router", "enable", "bird")
    assert "table 1111 holds a route of somebody else: 203.0.113.7/32 proto 4" in refusal
    assert silent.copies() == {"203.0.113.7/32"}


def test_what_bird_refuses_changes_nothing(silent: Announcing) -> None:
    """The operator's configuration has an error that nobody has noticed yet."""
    main = silent.at_host.config.read_text()
    silent.at_host.config.write_text(main + "nonsense\n")
    refusal = silent.refusal("router", "enable", "bird")
    assert "BIRD:" in refusal
    assert "syntax error" in refusal
    assert silent.include.read_text() == ""
    assert sorted(each.name for each in silent.include.parent.iterdir()) == [
        "bird.conf", "bird.ctl", "bird.log", "osctl.conf",
    ]  # fmt: skip


def test_a_configuration_without_the_include_is_refused_with_the_line(silent: Announcing) -> None:
    main = silent.at_host.config.read_text()
    silent.at_host.config.write_text(main.replace("include", "#include"))
    refusal = silent.refusal("router", "enable", "bird")
    command = refusal.partition("; ")[2]
    silent.in_namespace(silent.H, "sh", "-c", command)
    silent.osctl("router", "enable", "bird")


def test_a_bird_that_is_not_there_is_named(silent: Announcing) -> None:
    silent.at_host.end()
    assert "package bird2" in silent.refusal("router", "enable", "bird")


def test_a_restart_of_bird_announces_everything_again(announced: Announcing) -> None:
    announced.at_host.end(signal.SIGKILL)
    announced.at_host.start("-R")
    wait_until(
        lambda: "Established" in announced.at_host.ask("show protocols osctl_r4"), "the session is up", seconds=30
    )
    assert announced.routes_at_router() == {A4, B4, A6}


def test_a_dry_run_shows_the_file_and_the_copies(silent: Announcing) -> None:
    shown = silent.osctl("router", "enable", "--dry-run", "bird").stdout
    assert f"+++ {silent.include}" in shown
    assert "+protocol bgp osctl_r4 {" in shown
    assert silent.include.read_text() == ""
    silent.osctl("router", "enable", "bird")
    assert silent.include.read_text() == "".join(
        line[1:] + "\n" for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")
    )
    lines = silent.osctl("ct", "netif", "ip", "add", "--dry-run", "web", "eth0", "198.19.5.9").stdout
    assert "table 1111" in lines


def test_blocked_addresses_are_withdrawn(announced: Announcing) -> None:
    announced.osctl("net", "block", "198.19.5.1")
    wait_until(lambda: announced.routes_at_router() == {B4, A6}, "it is withdrawn")
    announced.osctl("net", "unblock", "198.19.5.1")
    wait_until(lambda: announced.routes_at_router() == {A4, B4, A6}, "it is announced again")


def findings_of(host: Announcing) -> list[str]:
    found = json.loads(host.osctl("-j", "self", "check", check=False).stdout)
    return [each["what"] for each in found if each["code"] == "announcing"]


def test_the_first_step_at_which_something_is_missing_is_told(announced: Announcing) -> None:
    assert findings_of(announced) == []

    os.kill(announced.at_host.pid, signal.SIGSTOP)
    (told,) = findings_of(announced)
    assert "BIRD: it does not answer" in told
    os.kill(announced.at_host.pid, signal.SIGCONT)

    announced.at_host.ask("disable osctl_r4")
    (told,) = findings_of(announced)
    assert told.startswith(f"neighbor 'r4' ({ROUTER_4}): no session since ")

    announced.at_host.ask("disable osctl4_kernel")
    (told,) = findings_of(announced)
    assert told.startswith("bird has 0 of 2 IPv4 networks from table 1111")


def test_a_neighbour_is_told_no_more_than_its_limit() -> None:
    neighbor = f'[neighbors.r4]\naddress = "{ROUTER_4}"\nremote_as = {ROUTER_AS}\nlimit = 2\n'
    with announcing(neighbor=neighbor) as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["198.19.5.7", "198.19.5.8"])
        host.osctl("router", "enable", "bird")
        wait_until(lambda: len(host.routes_at_router()) == 2, "they are announced", seconds=30)

        host.osctl("ct", "netif", "ip", "add", "web", "eth0", "198.19.5.1")

        wait_until(lambda: findings_of(host), "it is told")
        assert findings_of(host) == ["1 network is not announced: neighbor 'r4' has a limit of 2"]
        assert host.copies() == {"198.19.5.7/32", "198.19.5.8/32"}, "what is announced stays"

        host.osctl("ct", "netif", "ip", "del", "web", "eth0", "198.19.5.7")
        wait_until(lambda: host.routes_at_router() == {"198.19.5.1/32", "198.19.5.8/32"}, "there is room")
        assert findings_of(host) == []


def test_an_unnumbered_session_with_a_password_carries_both_versions() -> None:
    with announcing(neighbor=UNNUMBERED, router=UNNUMBERED_ROUTER) as host:
        password = host.birds / "password"
        password.write_text("correct horse\n")
        password.chmod(0o644)
        host.config.write_text(host.config.read_text().replace("/nowhere", str(password)))
        for namespace, link, address in ((host.H, "up0", "fe80::1:1/64"), (host.R, "down0", "fe80::1:2/64")):
            host.ip(namespace, "-6", "addr", "flush", "dev", link, "scope", "link")
            host.ip(namespace, "addr", "add", address, "dev", link, "nodad")
        host.restart_daemon()
        host.new_container("web", via=["10.100.10.100/30", "fd00:100::/126"], addresses=["198.19.5.1", "2001:db8:5::1"])
        assert "others than its owner may read it; chmod 600" in host.refusal("router", "enable", "bird")
        password.chmod(0o600)

        shown = host.osctl("router", "enable", "--dry-run", "bird").stdout
        assert "horse" not in shown
        assert "password" in shown

        host.osctl("router", "enable", "bird")
        wait_until(lambda: host.routes_at_router() == {A4, A6}, "the router knows", seconds=30)
        assert host.ping(host.R, "198.19.5.1") == 3
        assert "horse" not in host.osctl("router", "disable", "--dry-run").stdout
        assert host.include.stat().st_mode & 0o077 == 0o040
        assert "horse" not in host.log_text() + host.osctl("history").stdout


UNNUMBERED = f"""\
[neighbors.tor]
address = "fe80::1:2%up0"
remote_as = {ROUTER_AS}
limit = 100
communities = ["65001:77"]
password_file = "/nowhere"
"""
UNNUMBERED_ROUTER = f"""\
protocol bgp host {{ local as {ROUTER_AS}; neighbor fe80::1:1%down0 as {HOST_AS}; password "correct horse";
  connect delay time 1; connect retry time 1; error wait time 1,2;
  ipv4 {{ import where (65001,77) ~ bgp_community; export none; extended next hop on; }};
  ipv6 {{ import where (65001,77) ~ bgp_community; export none; }}; }}
"""


def test_an_interface_is_withdrawn_and_announced_again_without_a_lost_packet(announced: Announcing) -> None:
    with announced.watch_routes() as seen:
        announced.osctl("ct", "netif", "set", "--no-announce", "web", "eth0")
        assert announced.copies() == set()
        wait_until(lambda: announced.routes_at_router() == set(), "it is withdrawn")
        lines = [line for line in seen() if "198.19.5.1 " in line]
    # First the copy; then the route is replaced, and missing at no moment.
    assert ["Deleted" in line for line in lines] == [True, False]
    assert "table 1111" in lines[0]
    assert "proto 112" in lines[1]
    assert announced.osctl_json("ct", "netif", "show", "web", "eth0")["announce"] is False

    announced.osctl("ct", "netif", "set", "--announce", "web", "eth0")
    wait_until(lambda: announced.routes_at_router() == {A4, B4, A6}, "it is announced again")
    assert {each["protocol"] for each in announced.ip_json(announced.H, "route", "show", "198.19.5.1")} == {"111"}


def test_the_settings_of_the_page_are_those_of_these_tests(announced: Announcing) -> None:
    """What the page shows is what ran here, but for where files are."""
    text = (Path(__file__).parents[2] / "docs/announcing.md").read_text()
    shown = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    used = tomllib.loads(announced.config.read_text())
    places = {"bird_config", "bird_include", "bird_socket"}
    assert shown["announce"] == {key: value for key, value in used["announce"].items() if key not in places}
    assert shown["neighbors"] == used["neighbors"]


def test_commands_give_their_help_and_refuse_other_daemons(silent: Announcing) -> None:
    refusal = silent.refusal("router", "enable", "quagga", status=64)
    assert "'quagga': unknown routing daemon (expected bird)" in refusal
    assert silent.osctl("router", "disable").stdout == "nothing is announced\n"
