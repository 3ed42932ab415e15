"""Lists and records, for eyes and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.host import Topology

VIA_4, VIA_6 = "10.100.10.100/30", "fd00:1::/126"

LISTS = {
    "containers": ("ct", "ls"),
    "interfaces": ("ct", "netif", "ls"),
    "addresses": ("ct", "netif", "ip", "ls"),
    "routes": ("ct", "netif", "route", "ls"),
}
RECORDS = {
    "container": ("ct", "show", "web"),
    "interface": ("ct", "netif", "show", "web", "eth0"),
    "daemon": ("self", "status"),
}


@pytest.fixture(scope="module")
def shown() -> Iterator[Topology]:
    """A running `web` with two interfaces, a stopped `db`, and `empty` without any; nothing changes here."""
    with Topology() as topology:
        topology.new_container(
            "web", via=[VIA_4, VIA_6], addresses=["1.2.3.40", "2001:db8:2::4", "1.2.3.5", "10.5.5.1/24"]
        )
        topology.osctl("ct", "netif", "new", "routed", "--via", "10.100.20.0/31", "web", "eth1")
        topology.osctl("ct", "netif", "ip", "add", "--no-route", "web", "eth1", "198.51.100.9")
        topology.osctl("ct", "new", "--distribution", "busybox", "--user", "tenant", "db")
        topology.osctl("ct", "netif", "new", "routed", "--via", "10.100.30.0/24", "db", "eth0")
        topology.osctl("ct", "netif", "route", "add", "db", "eth0", "203.0.113.0/24")
        topology.new_container("empty", start=False)
        yield topology


def cells(line: str) -> list[str]:
    return line.split()


# --- what they say -----------------------------------------------------------------------------------------------


def test_containers_are_listed_with_what_they_are_and_do(shown: Topology) -> None:
    header, *rows = shown.osctl("ct", "ls").stdout.splitlines()

    words = " ".join(cells(header))
    assert words == "POOL ID USER GROUP DISTRIBUTION VERSION STATE INIT_PID MEMORY CPU_TIME"
    by_name = {cells(row)[1]: cells(row) for row in rows}
    assert list(by_name) == ["db", "empty", "web"]
    assert by_name["db"] == ["default", "db", "tenant", "/default", "busybox", "stable", "stopped", "-", "-", "-"]
    web = by_name["web"]
    assert web[:7] == ["default", "web", "web", "/default", "busybox", "stable", "running"]
    assert Path(f"/proc/{web[7]}/comm").read_text().strip() in ("init", "busybox")
    assert re.fullmatch(r"\d+(\.\d[KMG])?", web[8])
    assert re.fullmatch(r"\d+s|[\d:]+", web[9])


def test_containers_can_be_chosen(shown: Topology) -> None:
    def names(*argv: str) -> list[str]:
        return shown.osctl("ct", "ls", "-H", "-o", "id", *argv).stdout.split()

    assert names("web", "db") == ["web", "db"]
    assert names("default:web") == ["web"]
    assert names("-S", "running") == ["web"]
    assert names("--state", "running,stopped", "db", "web") == ["db", "web"]
    assert "expected stopped or starting or running or stopping" in shown.refusal("ct", "ls", "-S", "runing", status=64)
    assert names("-u", "tenant") == ["db"]
    assert names("-d", "debian") == []
    assert names("-d", "debian,busybox", "--pool", "default") == ["db", "empty", "web"]


def test_interfaces_are_listed_with_their_host_ends_while_they_run(shown: Topology) -> None:
    header, *rows = shown.osctl("ct", "netif", "ls").stdout.splitlines()

    assert cells(header) == ["POOL", "CTID", "NAME", "TYPE", "LINK", "VETH"]
    assert [cells(row) for row in rows] == [
        ["default", "db", "eth0", "routed", "-", "-"],
        ["default", "web", "eth0", "routed", "-", shown.veth("web")],
        ["default", "web", "eth1", "routed", "-", shown.veth("web", "eth1")],
    ]
    links = {each["ifname"] for each in shown.ip_json(shown.H, "link", "show", "group", "111")}
    assert links == {shown.veth("web"), shown.veth("web", "eth1")}
    assert [cells(row)[2] for row in shown.osctl("ct", "netif", "ls", "-H", "web").stdout.splitlines()] == [
        "eth0",
        "eth1",
    ]
    assert shown.osctl("ct", "netif", "ls", "-H", "empty").stdout == ""
    assert shown.osctl("ct", "netif", "ls", "-H", "-t", "bridge").stdout == ""
    assert len(shown.osctl("ct", "netif", "ls", "-H", "-t", "bridge,routed").stdout.splitlines()) == 3


def test_interfaces_tell_all_that_is_known_of_them(shown: Topology) -> None:
    eth0, eth1 = shown.osctl_json("ct", "netif", "ls", "web")

    assert list(eth0) == [
        *("pool", "ctid", "name", "index", "type", "link", "veth", "via", "hwaddr"),
        *("mtu", "guest", "announce", "public", "dhcp", "gateways"),
    ]
    (link,) = shown.guest_ip_json("web", "link", "show", "dev", "eth0")
    assert eth0["hwaddr"] == link["address"]
    assert (eth0["index"], eth1["index"]) == (0, 1)
    assert eth0["via"] == {"4": VIA_4, "6": VIA_6}
    assert eth1["via"] == {"4": "10.100.20.0/31"}
    text = shown.osctl("ct", "netif", "ls", "-H", "-o", "name,via", "web").stdout
    assert [cells(line) for line in text.splitlines()] == [
        ["eth0", f"4={VIA_4},6={VIA_6}"],
        ["eth1", "4=10.100.20.0/31"],
    ]


@pytest.mark.parametrize(
    ("argv", "header", "rows"),
    [
        (
            ("web", "eth0"),
            ["VERSION", "ADDR"],
            [["4", "1.2.3.40/32"], ["4", "1.2.3.5/32"], ["4", "10.5.5.1/24"], ["6", "2001:db8:2::4/128"]],
        ),
        (("web", "eth0", "-v", "6"), ["VERSION", "ADDR"], [["6", "2001:db8:2::4/128"]]),
        (
            ("-v4", "web"),
            ["NETIF", "VERSION", "ADDR", "STATE"],
            [
                ["eth0", "4", "1.2.3.40/32", "routed"],
                ["eth0", "4", "1.2.3.5/32", "routed"],
                ["eth0", "4", "10.5.5.1/24", "routed"],
                ["eth1", "4", "198.51.100.9/32", "unrouted"],
            ],
        ),
        (
            ("-v", "6"),
            ["POOL", "CTID", "NETIF", "VERSION", "ADDR"],
            [["default", "web", "eth0", "6", "2001:db8:2::4/128"]],
        ),
        (("db",), ["NETIF", "VERSION", "ADDR"], []),
        (("empty",), ["NETIF", "VERSION", "ADDR"], []),
    ],
)
def test_addresses_are_listed_for_one_interface_one_container_or_all(
    shown: Topology, argv: tuple[str, ...], header: list[str], rows: list[list[str]]
) -> None:
    first, *others = shown.osctl("ct", "netif", "ip", "ls", *argv).stdout.splitlines()

    assert cells(first) == header
    assert [cells(line) for line in others] == rows


def test_all_addresses_are_listed_with_their_owners(shown: Topology) -> None:
    found = shown.osctl_json("ct", "netif", "ip", "ls")

    assert [(each["ctid"], each["netif"], each["addr"], each["state"]) for each in found] == [
        ("web", "eth0", "1.2.3.40/32", "routed"),
        ("web", "eth0", "1.2.3.5/32", "routed"),
        ("web", "eth0", "10.5.5.1/24", "routed"),
        ("web", "eth0", "2001:db8:2::4/128", "routed"),
        ("web", "eth1", "198.51.100.9/32", "unrouted"),
    ]


def test_routes_are_listed_for_one_interface_one_container_or_all(shown: Topology) -> None:
    def lines(*argv: str) -> list[list[str]]:
        return [cells(line) for line in shown.osctl("ct", "netif", "route", "ls", *argv).stdout.splitlines()]

    assert lines() == [
        ["POOL", "CTID", "NETIF", "VERSION", "ADDR"],
        ["default", "db", "eth0", "4", "203.0.113.0/24"],
        ["default", "web", "eth0", "4", "1.2.3.40/32"],
        ["default", "web", "eth0", "4", "1.2.3.5/32"],
        ["default", "web", "eth0", "4", "10.5.5.0/24"],
        ["default", "web", "eth0", "6", "2001:db8:2::4/128"],
    ]
    assert lines("db") == [["NETIF", "VERSION", "ADDR"], ["eth0", "4", "203.0.113.0/24"]]
    assert lines("web", "eth0", "-v", "6") == [["VERSION", "ADDR"], ["6", "2001:db8:2::4/128"]]
    assert lines("web", "eth1") == [["VERSION", "ADDR"]]


def test_a_record_shows_a_line_for_each_field(shown: Topology) -> None:
    text = shown.osctl("ct", "netif", "show", "web", "eth0").stdout

    assert text.endswith("\n\n")
    labels = [line.partition(":  ")[0] for line in text.splitlines()[:-1]]
    assert len({len(label) for label in labels}) == 1, "labels are aligned to the right"
    fields = {line.partition(":  ")[0].strip(): line.partition(":  ")[2] for line in text.splitlines()[:-1]}
    assert fields["HOST_ADDR"] == "4=10.100.10.101/30,6=fd00:1::1/126"
    assert fields["CT_ADDR"] == "4=10.100.10.102/30,6=fd00:1::2/126"
    assert fields["SOURCE"] == "4=1.2.3.40,6=2001:db8:2::4"
    assert fields["ADDRESSES"] == "1.2.3.40/32,2001:db8:2::4/128,1.2.3.5/32,10.5.5.1/24"
    assert fields["LINK"] == "-"
    assert shown.osctl("ct", "netif", "show", "-H", "-o", "host_addr,name", "web", "eth0").stdout == (
        "4=10.100.10.101/30,6=fd00:1::1/126\neth0\n\n"
    )


def test_the_host_end_of_a_stopped_container_is_known_and_not_there(shown: Topology) -> None:
    record = shown.osctl_json("ct", "netif", "show", "db", "eth0")

    assert record["veth"] is None
    assert record["host_link"].startswith("os")
    assert shown.ip(shown.H, "link", "show", "dev", record["host_link"], check=False) == ""


def test_the_daemon_counts_what_it_keeps(shown: Topology) -> None:
    status = shown.osctl_json("self", "status")

    assert status["pid"] == shown.daemon_pid
    assert status["state_dir"] == str(shown.state_dir)
    assert status["run_dir"] == str(shown.run_dir)
    assert (status["containers"], status["running"], status["interfaces"]) == (3, 1, 3)
    assert (status["addresses"], status["routes"]) == (5, 5)
    assert shown.osctl("ping").stdout == "pong\n"


# --- options of all lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [*LISTS.values(), *RECORDS.values()], ids=[*LISTS, *RECORDS])
def test_fields_are_chosen_named_and_told_to_programs(shown: Topology, argv: tuple[str, ...]) -> None:
    fields = shown.osctl(*argv, "-L").stdout.splitlines()
    data = json.loads(shown.osctl("-j", *argv).stdout)
    one = data[0] if isinstance(data, list) else data

    assert sorted(fields) == sorted(one)
    assert shown.osctl(*argv, "--list").stdout.splitlines() == fields
    assert shown.osctl("--json", *argv, "-o", fields[0]).stdout.count("\n") == 1
    assert json.loads(shown.osctl(*argv, "--json", "-o", fields[0]).stdout)
    chosen = shown.osctl(*argv, "-o", f"{fields[1]},{fields[0]}").stdout
    assert re.findall(r"[A-Z_]+", chosen.splitlines()[0])[0] == fields[1].upper()
    everything = shown.osctl(*argv, "-o", "all").stdout
    assert all(field.upper() in everything for field in fields)
    message = shown.refusal(*argv, "-o", "frob", status=64)
    assert message.startswith("unknown output parameter 'frob'")


@pytest.mark.parametrize("argv", LISTS.values(), ids=LISTS)
def test_tables_keep_their_columns(shown: Topology, argv: tuple[str, ...]) -> None:
    with_header = shown.osctl(*argv).stdout.splitlines()
    # A column that shows itself where there is something to tell does not without the header.
    chosen = ",".join(cells(with_header[0])).lower()
    without_header = shown.osctl(*argv, "-H", "-o", chosen).stdout.splitlines()

    assert len({len(line) for line in with_header}) == 1, "trailing blanks are kept"
    assert [len(line) for line in without_header] == [len(with_header[0])] * (len(with_header) - 1)
    names = cells(with_header[0])
    starts = [re.search(rf"(?<!\S){name}(?!\S)", with_header[0]) for name in names]
    for line in with_header:
        for found in starts:
            assert found is not None
            assert line[found.start()] != " "
            assert found.start() == 0 or line[found.start() - 2 : found.start()] == "  "


def test_lists_are_sorted_by_values_and_not_by_their_letters(shown: Topology) -> None:
    def column(*argv: str) -> list[str]:
        return shown.osctl(*argv, "-H", "-o", argv[-1]).stdout.split()

    assert column("ct", "netif", "ip", "ls", "web", "eth0", "-s", "addr") == [
        "1.2.3.5/32",
        "1.2.3.40/32",
        "10.5.5.1/24",
        "2001:db8:2::4/128",
    ]
    assert column("ct", "ls", "-s", "init_pid")[:2] == ["-", "-"]
    rows = shown.osctl("ct", "netif", "ls", "-H", "-o", "name,ctid", "--sort", "name,ctid").stdout
    assert [cells(row) for row in rows.splitlines()] == [["eth0", "db"], ["eth0", "web"], ["eth1", "web"]]


def test_sorting_by_a_column_that_is_not_shown_is_refused(shown: Topology) -> None:
    assert shown.refusal("ct", "ls", "-s", "frob").startswith("unknown sort column 'frob' (expected pool, id, user,")
    assert shown.refusal("ct", "ls", "-o", "id", "-s", "state") == "unknown sort column 'state' (expected id)"


def test_exact_values_are_printed_on_request(shown: Topology) -> None:
    exact = shown.osctl("-p", "ct", "ls", "-H", "-o", "memory,cpu_time", "web").stdout.split()
    behind = shown.osctl("ct", "ls", "-H", "-o", "memory,cpu_time", "web", "--parsable").stdout.split()

    assert all(each.isdigit() for each in (*exact, *behind))
    assert int(exact[0]) > 4096
    assert int(exact[1]) < 3_600_000_000_000
    assert re.fullmatch(r"\d+\.\d[KM]", shown.osctl("ct", "ls", "-H", "-o", "memory", "web").stdout.strip())


def test_progress_is_printed_unless_quiet(shown: Topology) -> None:
    assert "Starting" in shown.osctl("ct", "start", "empty").stdout
    assert "Stopping" in shown.osctl("ct", "stop", "-k", "empty").stdout
    assert shown.osctl("-q", "ct", "start", "empty").stdout == ""
    assert shown.osctl("ct", "stop", "-k", "empty", "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("argv", "quoted"),
    [
        (("ct", "ls", "nobody"), "nobody"),
        (("ct", "ls", "web", "nobody"), "nobody"),
        (("ct", "show", "nobody"), "nobody"),
        (("ct", "show", "tank:web"), "tank"),
        (("--pool", "tank", "ct", "ls"), "tank"),
        (("ct", "netif", "ls", "nobody"), "nobody"),
        (("ct", "netif", "ip", "ls", "nobody"), "nobody"),
        (("ct", "netif", "ip", "ls", "web", "eth7"), "eth7"),
        (("ct", "netif", "route", "ls", "web", "eth7"), "eth7"),
    ],
)
def test_what_is_not_there_cannot_be_listed(shown: Topology, argv: tuple[str, ...], quoted: str) -> None:
    assert quoted in shown.refusal(*argv)


def test_help_and_version_need_no_arguments(shown: Topology) -> None:
    assert "usage: osctl" in shown.osctl("--help").stdout
    assert "--via" in shown.osctl("help", "ct", "netif", "new", "routed").stdout
    assert "--route-as" in shown.osctl("ct", "netif", "ip", "add", "--help").stdout
    assert re.fullmatch(r"osctl version \S+, build \S+\n", shown.osctl("--version").stdout)
    missing = shown.osctl("ct", "netif", check=False)
    assert (missing.status, missing.stdout) == (64, "")
    assert missing.stderr.startswith("error: command 'ct netif' requires a subcommand\n")


def test_a_list_without_its_header_has_the_columns_that_a_script_knows(idle_host: Topology) -> None:
    host = idle_host
    host.new_container("unrouted", via=["10.100.20.100/30"], start=False)
    host.osctl("ct", "netif", "ip", "add", "--no-route", "unrouted", "eth0", "10.77.0.1")
    show = ("ct", "netif", "ip", "ls")

    assert "STATE" in host.osctl(*show, "unrouted", "eth0").stdout
    assert host.osctl(*show, "-H", "unrouted", "eth0").stdout.split() == ["4", "10.77.0.1/32"]
    assert host.osctl(*show, "-H", "-o", "addr,state", "unrouted").stdout.split() == ["10.77.0.1/32", "unrouted"]
    host.osctl("ct", "del", "unrouted")


def test_containers_and_interfaces_are_chosen_by_what_the_original_chooses_them_by(idle_host: Topology) -> None:
    host = idle_host
    host.osctl("ct", "new", "--distribution", "busybox", "--version", "7", "one")
    host.osctl("ct", "netif", "new", "routed", "one", "eth0")

    def ids(*options: str) -> list[str]:
        return host.osctl("ct", "ls", "-H", "-o", "id", *options, "one").stdout.split()

    assert (ids("-v", "7"), ids("-v", "8"), ids("-g", "/default"), ids("-g", "/x")) == (["one"], [], ["one"], [])
    assert host.osctl_json("ct", "netif", "ls", "-l", "lxcbr0") == []
    host.osctl("ct", "del", "one")


@pytest.mark.parametrize(
    ("words", "use"),
    [
        (("ct", "pid", "1"), "osctl ct ls -H -o id,init_pid"),
        (("ct", "log", "cat", "one"), "osctl -j self status"),
        (("pool", "ls"), "there is only one pool, default"),
        (("user", "show", "u1"), "osctl ct ls -o id,user,uid_offset"),
        (("group", "ls"), "osctl ct ls -o id,group"),
        (("ping", "5"), "until osctl ping"),
    ],
)
def test_what_only_the_original_has_is_refused_in_words_that_say_what_to_use(
    idle_host: Topology, words: tuple[str, ...], use: str
) -> None:
    assert use in idle_host.refusal(*words, status=64)


def test_a_start_and_a_restart_take_the_originals_options(idle_host: Topology) -> None:
    host = idle_host
    host.new_container("one", start=False)
    host.osctl("ct", "start", "-q", "-p", "3", "one")
    first = host.init_pid("one")
    host.osctl("ct", "restart", "-r", "one")

    assert host.init_pid("one") != first
    assert "--reboot" in host.refusal("ct", "restart", "-r", "-k", "one", status=64)
    assert host.osctl("-q", "ct", "stop", "-k", "one").stderr == ""
    host.osctl("ct", "del", "one")
