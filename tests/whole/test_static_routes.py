"""`osctl router static`: what is printed for a router, applied there by its own program, leads to the containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import osctl.client
from osctld.announce.static.dialect import dialects
from whole.bare_daemon import BARE
from whole.host import BIN, HOST_4, HOST_6, WORLD_4, WORLD_6, Topology, run
from whole.router_programs import LINK, RUNNING

pytestmark = pytest.mark.requires_kernel("nftables fib")

VIAS = ["10.100.10.100/30", "fd00:1::/126"]

#: What the containers below have, as few routes as possible: running, stopped, in a public interconnecting network.
ROUTED = ("1.2.3.4/31", "10.0.0.0/24", "10.5.5.0/24", "203.0.113.7", "2001:db8:2::4/127", "2001:db8:2:5::/64")
#: The same after `change`.
CHANGED = ("1.2.3.4", "10.0.0.0/24", "198.51.100.9", "203.0.113.7", "2001:db8:2::4/127", "2001:db8:2:4::/63")


def fill(host: Topology) -> None:
    """Containers with all kinds of networks, those in `ROUTED` and others that a router must not know."""
    host.new_container("web", via=VIAS, addresses=["1.2.3.4", "1.2.3.5", "2001:db8:2::4", "2001:db8:2::5"])
    host.osctl("ct", "netif", "route", "add", "web", "eth0", "10.5.5.0/24", "2001:db8:2:5::/64")
    host.osctl("ct", "netif", "ip", "add", "--no-route", "web", "eth0", "192.168.7.1")
    host.osctl("ct", "netif", "source", "add", "web", "eth0", "100.64.0.0/24")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "203.0.113.77")
    host.osctl("ct", "netif", "standby", "web", "eth0", "203.0.113.77")
    host.osctl("ct", "new", "--distribution", "busybox", "wide")
    ends = ("--host-addr", "10.0.0.254", "--ct-addr", "10.0.0.1")
    host.osctl("ct", "netif", "new", "routed", "--via", "10.0.0.0/24", *ends, "wide", "eth0")
    host.osctl("ct", "start", "wide")
    host.new_container("shop", via=["10.100.10.104/30"], addresses=["203.0.113.7"], start=False)


def change(host: Topology) -> None:
    host.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.5")
    host.osctl("ct", "netif", "route", "del", "web", "eth0", "10.5.5.0/24")
    host.osctl("ct", "netif", "route", "add", "web", "eth0", "2001:db8:2:4::/64")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "198.51.100.9")


def link_local_of(host: Topology) -> str:
    """The address of H's uplink that has a meaning on that link alone."""
    (link,) = host.ip_json(host.H, "addr", "show", "dev", "up0")
    return str(next(each["local"] for each in link["addr_info"] if each["scope"] == "link"))


def words(name: str, next_hops: Mapping[int, str], *more: str) -> tuple[str, ...]:
    hops = [word for each in dict.fromkeys(next_hops.values()) for word in ("--next-hop", each)]
    crossed = ["--ipv4-via-ipv6"] if ":" in next_hops[4] else []
    return ("router", "static", "--format", name, *hops, *crossed, *more)


def expected(networks: tuple[str, ...], next_hops: Mapping[int, str]) -> dict[str, str]:
    return {each: next_hops[6 if ":" in each else 4].partition("%")[0] for each in networks}


CASES = [(name, kind) for name in RUNNING for kind in ("usual", "link-local", "ipv4-via-ipv6")]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name}-{kind}" for name, kind in CASES])
def test_a_router_that_was_told_reaches_the_containers_and_follows_changes(
    bare: Topology, tmp_path: Path, name: str, kind: str
) -> None:
    dialect = dialects()[name]
    link_local = f"{link_local_of(bare)}%{LINK}"
    link = f"%{LINK}" if dialect.requires_link else ""
    next_hops = {
        "usual": {4: f"{HOST_4}{link}", 6: f"{HOST_6}{link}"},
        "link-local": {4: f"{HOST_4}%{LINK}", 6: link_local},
        "ipv4-via-ipv6": {4: link_local, 6: link_local},
    }[kind]
    fill(bare)
    if kind == "ipv4-via-ipv6" and not dialect.takes_ipv4_via_ipv6:
        refused = bare.refusal(*words(name, next_hops))
        assert refused == f"{link_local}: {name} has no IPv4 routes with an IPv6 next hop"
        return

    with RUNNING[name](bare, tmp_path) as router:
        assert router.routes() == {}
        before = bare.osctl(*words(name, next_hops))
        assert before.stderr == ""
        router.apply(before.stdout)

        router.wait_for(expected(ROUTED, next_hops))
        for address in ("1.2.3.4", "1.2.3.5", "10.0.0.1"):
            assert bare.ping(bare.R, address, source=WORLD_4, seconds=5) == 3, f"{address}\n{router.logs()}"
        assert bare.ping(bare.R, "2001:db8:2::5", source=WORLD_6, seconds=5) == 3, router.logs()

        (tmp_path / "told").write_text(before.stdout)
        since = ("--since", str(tmp_path / "told"))
        assert bare.osctl(*words(name, next_hops, *since)).stdout == ""
        change(bare)
        router.apply_change(bare.osctl(*words(name, next_hops, *since)).stdout)

        router.wait_for(expected(CHANGED, next_hops))
        assert bare.ping(bare.R, "198.51.100.9", source=WORLD_4, seconds=5) == 3, router.logs()


@pytest.mark.parametrize("name", RUNNING)
def test_the_router_s_own_check_passes_what_is_printed_and_not_what_is_not(
    filled: Topology, tmp_path: Path, name: str
) -> None:
    """Of what is not applied in the end, a check that passes everything would say nothing."""
    next_hops = {4: f"{HOST_4}%{LINK}", 6: f"{HOST_6}%{LINK}"}
    with RUNNING[name](filled, tmp_path) as router:
        printed = filled.osctl(*words(name, next_hops)).stdout

        assert router.accepts(printed), router.logs()
        # An address may end in what means something else to a parser.
        ending_in_colons = filled.osctl(*words(name, {**next_hops, 6: f"2001:db8:1::%{LINK}"})).stdout
        assert router.accepts(ending_in_colons), router.logs()
        assert router.mistake[0] in printed
        assert not router.accepts(printed.replace(*router.mistake)), router.logs()


def test_a_router_is_not_run_here_only_where_there_is_no_such_program() -> None:
    assert dialects().keys() - RUNNING.keys() == {"ios", "junos", "routeros", "vyos"}


def test_the_script_of_the_guide_keeps_a_router_up_to_date(bare: Topology, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/static-routes.md").read_text()
    (script,) = re.findall(r"\n\n((?:    [^\n]+\n)+)\n", text)
    assert "ssh router ip -batch - <changes" in script
    script = script.replace("ssh router ip", f"ip -n {bare.R}")
    (tmp_path / "routes").touch()
    next_hops = {4: HOST_4, 6: HOST_6}

    def run_script() -> None:
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OSCTL_SOCKET": str(bare.socket)}
        subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=50)

    with RUNNING["ip"](bare, tmp_path) as router:
        run_script()
        assert router.routes() == {}
        fill(bare)
        run_script()
        assert router.routes() == expected(of_version(4, ROUTED), next_hops)
        run_script()
        change(bare)
        run_script()
        assert router.routes() == expected(of_version(4, CHANGED), next_hops)


def of_version(version: int, networks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in networks if (":" in each) == (version == 6))


# --- what is printed ----------------------------------------------------------------------------------------------

BOTH = ("--next-hop", HOST_4, "--next-hop", HOST_6)


@pytest.fixture(scope="module")
def filled() -> Iterator[Topology]:
    """A host with the containers of `fill`, for tests that change nothing."""
    with Topology(program=BARE) as host:
        fill(host)
        yield host


def rows(answer: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [tuple(each.values()) for each in answer]


def test_programs_get_rows_instead_of_lines(filled: Topology) -> None:
    found = filled.osctl_json("router", "static", "--next-hop", HOST_4, "--next-hop", "fe80::1%eth0")

    assert list(found[0]) == ["version", "network", "next_hop", "link", "change"]
    assert rows(found) == [
        (4, "1.2.3.4/31", HOST_4, None, None),
        (4, "10.0.0.0/24", HOST_4, None, None),
        (4, "10.5.5.0/24", HOST_4, None, None),
        (4, "203.0.113.7/32", HOST_4, None, None),
        (6, "2001:db8:2::4/127", "fe80::1", "eth0", None),
        (6, "2001:db8:2:5::/64", "fe80::1", "eth0", None),
    ]


def test_programs_get_what_has_changed_as_rows(bare: Topology, tmp_path: Path) -> None:
    fill(bare)
    (tmp_path / "told").write_text(bare.osctl("router", "static", *BOTH, "--format", "bird").stdout)
    change(bare)

    found = bare.osctl_json("router", "static", *BOTH, "--format", "bird", "--since", str(tmp_path / "told"))

    assert rows(found) == [
        (4, "1.2.3.4/31", HOST_4, None, "remove"),
        (4, "10.5.5.0/24", HOST_4, None, "remove"),
        (6, "2001:db8:2:5::/64", HOST_6, None, "remove"),
        (4, "1.2.3.4/32", HOST_4, None, "add"),
        (4, "198.51.100.9/32", HOST_4, None, "add"),
        (6, "2001:db8:2:4::/63", HOST_6, None, "add"),
    ]


def test_what_is_left_out_is_told_beside_it(filled: Topology) -> None:
    printed = filled.osctl("router", "static", "--next-hop", HOST_4)

    assert printed.stderr == "note: 2 IPv6 routes are left out: no IPv6 next hop was given\n"
    assert len(printed.stdout.splitlines()) == 4
    assert ":" not in printed.stdout
    assert filled.osctl("-q", "router", "static", "--next-hop", HOST_4).stderr == ""
    as_json = filled.osctl("-j", "router", "static", "--next-hop", HOST_4)
    assert {each["version"] for each in json.loads(as_json.stdout)} == {4}
    with osctl.client.connect(str(filled.socket)) as daemon:
        answer = daemon.ask("router_static", next_hop=[HOST_6])
    assert {each["version"] for each in answer.response} == {6}
    assert answer.progress == ("4 IPv4 routes are left out: no IPv4 next hop was given",)


def test_a_container_s_state_makes_no_difference_and_parting_with_a_network_does(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, addresses=["1.2.3.4", "1.2.3.8"])
    running = bare.osctl_json("router", "static", "--next-hop", HOST_4)

    bare.osctl("net", "block", "1.2.3.4")
    assert bare.osctl_json("router", "static", "--next-hop", HOST_4) == running
    bare.osctl("ct", "stop", "web")
    assert bare.osctl_json("router", "static", "--next-hop", HOST_4) == running

    bare.osctl("ct", "netif", "standby", "web", "eth0", "1.2.3.4")
    assert [each["network"] for each in bare.osctl_json("router", "static", "--next-hop", HOST_4)] == ["1.2.3.8/32"]
    bare.osctl("ct", "del", "web")
    empty = bare.osctl("router", "static", "--next-hop", HOST_4)
    assert (empty.stdout, empty.stderr) == ("", "")


def test_an_interconnecting_network_is_printed_if_it_is_public(bare: Topology) -> None:
    bare.osctl("ct", "new", "--distribution", "busybox", "web")
    for interface, options in (("eth0", ()), ("eth1", ("--via-public",))):
        via = f"10.100.{interface[-1]}.0/30"
        bare.osctl("ct", "netif", "new", "routed", "--via", via, *options, "web", interface)

    found = bare.osctl_json("router", "static", "--next-hop", HOST_4)

    assert [each["network"] for each in found] == ["10.100.1.0/30"]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_a_next_hop_inside_a_container_s_network_is_refused(filled: Topology) -> None:
    refused = filled.refusal("router", "static", "--next-hop", "10.5.5.9")

    assert refused == (
        "10.5.5.9: lies in 10.5.5.0/24, which is routed to a container; the router would look for it there"
    )


def test_a_format_that_is_not_there_is_a_usage_error(filled: Topology) -> None:
    refused = filled.refusal("router", "static", "--next-hop", HOST_4, "--format", "cisco", status=64)

    assert refused.startswith("invalid argument: --format cisco (expected bird or frr or ")


def test_a_file_that_is_none_of_ours_is_refused(filled: Topology, tmp_path: Path) -> None:
    def refusal(file: Path) -> str:
        return filled.refusal("router", "static", *BOTH, "--since", str(file))

    foreign = tmp_path / "foreign"
    foreign.write_text("route replace 1.2.3.4/32 via 192.0.2.1 proto static\ndefault via 192.0.2.1 dev eth0\n")
    assert refusal(foreign) == (
        f"'{foreign}': line 2 was not printed by osctl router static --format ip: 'default via 192.0.2.1 dev eth0'"
    )
    (tmp_path / "bytes").write_bytes(b"\xff\0\x1b[2J\n")
    assert refusal(tmp_path / "bytes").endswith(r"'\\xff\x00\x1b[2J'")
    assert refusal(tmp_path / "none") == f"'{tmp_path}/none': cannot be read: No such file or directory"
    assert refusal(tmp_path) == f"'{tmp_path}': cannot be read: Is a directory"
    # Without an end.
    assert refusal(Path("/dev/zero")) == "'/dev/zero': cannot be read: File too large"


def test_earlier_routes_may_come_from_a_pipe(filled: Topology) -> None:
    printed = filled.osctl("router", "static", *BOTH).stdout

    since = filled.osctl("router", "static", *BOTH, "--since", "/dev/stdin", stdin=printed)

    assert (since.stdout, since.stderr) == ("", "")


def test_a_program_names_a_file_on_the_host(filled: Topology, tmp_path: Path) -> None:
    (tmp_path / "told").write_text(filled.osctl("router", "static", *BOTH).stdout)
    (tmp_path / "empty").touch()
    with osctl.client.connect(str(filled.socket)) as daemon:

        def since(file: Path | str) -> Any:
            return daemon.call("router_static", next_hop=[HOST_4, HOST_6], since=str(file))

        assert since(tmp_path / "told") == []
        assert {each["change"] for each in since(tmp_path / "empty")} == {"add"}
        for file, why in (
            (Path("/dev/zero"), "not a regular file"),
            (tmp_path, "Is a directory"),
            ("told", "the path is not absolute"),
            ("-", "the path is not absolute"),
        ):
            with pytest.raises(osctl.client.RequestFailed, match=f"^'{file}': cannot be (read|opened): {why}"):
                since(file)


def test_a_file_is_read_with_the_rights_of_whoever_asks(tmp_path: Path) -> None:
    """Who may only look must not read by our hand what they may not read themselves."""
    secret = tmp_path / "secret"
    secret.write_text("password\n")
    secret.chmod(0o600)
    with Topology(program=BARE, settings='[socket]\nread_only_group = "nogroup"\n') as host:
        argv = [*host.client, "router", "static", *BOTH, "--since", str(secret)]
        host.directory.chmod(0o755)
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *argv, check=False)

        assert (done.status, done.stdout) == (1, "")
        assert done.stderr == f"error: '{secret}': cannot be read: Permission denied\n"
        alone = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *argv[:-2], check=False)
        assert (alone.status, alone.stderr) == (0, "")


def test_it_changes_nothing_that_a_dry_run_could_tell(filled: Topology) -> None:
    refused = filled.refusal("--dry-run", "router", "static", *BOTH, status=64)

    assert refused == "--dry-run requires a command that changes something"
