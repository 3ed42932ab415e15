"""Programs: typed requests, data that follows its schema, many clients at once, and what no client can do to it."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import osctl.client
from json_schema import SCHEMAS, published, violations
from osctl.client import Client, RequestFailed
from osctld.cli.parse import Parameter, longest_name
from osctld.core.command import Option
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.reading import parameters
from whole.host import Topology, wait_until
from whole.original_client import OriginalClient

PAGE = (Path(__file__).parents[2] / "docs/programs.md").read_text()


@pytest.fixture
def daemon(idle_host: Topology) -> Iterator[Client]:
    with osctl.client.connect(str(idle_host.socket)) as client:
        yield client
    idle_host.delete_containers()


def new_container(daemon: Client, name: str) -> None:
    daemon.call("ct_new", container=name, distribution="busybox")
    daemon.call("ct_netif_new_routed", container=name, netif="eth0", via=["10.100.10.100/30", "2001:db8:2:1::/126"])


# --- the library --------------------------------------------------------------------------------------------------


def test_a_program_changes_and_asks_with_data(daemon: Client) -> None:
    new_container(daemon, "web")

    answer = daemon.ask("ct_netif_ip_add", container="web", netif="eth0", addresses=["1.2.3.4/32", "10.5.5.1/24"])
    rows = daemon.call("ct_netif_ip_ls", container="web")

    assert answer.response == ["routed 10.5.5.0/24 (256 addresses)"]
    assert [row["addr"] for row in rows] == ["1.2.3.4/32", "10.5.5.1/24"]


def test_a_refusal_says_what_it_is_about_and_who_holds_it(daemon: Client) -> None:
    new_container(daemon, "web")
    daemon.call("ct_netif_ip_add", container="web", netif="eth0", addresses=["1.2.3.4"])
    daemon.call("ct_new", container="other", distribution="busybox")
    daemon.call("ct_netif_new_routed", container="other", netif="eth0", via=["10.100.10.104/30"])

    with pytest.raises(RequestFailed, match="web") as failed:
        daemon.call("ct_netif_route_add", container="other", netif="eth0", networks=["1.2.3.4/32"])

    assert failed.value.subject == "1.2.3.4/32"
    assert failed.value.holder == "eth0 of web"
    assert failed.value.code
    assert daemon.call("ct_netif_route_ls", container="other") == []


def test_the_examples_of_the_page_for_programs_give_what_it_says(
    daemon: Client, idle_host: Topology, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new_container(daemon, "web")
    daemon.call("ct_new", container="db", distribution="busybox")
    daemon.call("ct_netif_new_routed", container="db", netif="eth0", via=["10.100.10.104/30"])
    monkeypatch.setenv("OSCTL_SOCKET", str(idle_host.socket))
    adding, refused = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    exec(adding, {})
    exec(refused, {"osctl": osctl, "daemon": daemon})

    assert capsys.readouterr().out.splitlines() == ["1.2.3.4/32 routed", refused.rpartition("# ")[2].strip()]


def test_the_dialogue_of_the_page_for_programs_is_what_is_said(daemon: Client, idle_host: Topology) -> None:
    new_container(daemon, "web")
    dialogue = re.findall(r"^    ([<>]) (.+)$", PAGE, re.MULTILINE)
    assert len(dialogue) > 5

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(idle_host.socket))
        answers = connection.makefile("rb")
        assert "version" in json.loads(answers.readline())
        for who, line in dialogue:
            if who == ">":
                connection.sendall(line.encode() + b"\n")
            else:
                assert json.loads(answers.readline()) == json.loads(line)
        answers.close()


def test_an_error_is_json_on_standard_error_where_json_was_asked_for(idle_host: Topology) -> None:
    for argv, status in ((("ct", "show", "none"), 1), (("ct", "frob"), 64)):
        result = idle_host.osctl("-j", *argv, check=False)

        assert (result.status, result.stdout) == (status, "")
        error = json.loads(result.stderr)
        assert not violations(error, published("error"))
        assert error["code"] in ("container-not-found", "usage")


def test_a_plan_is_lines_and_changes_nothing(daemon: Client) -> None:
    new_container(daemon, "web")

    assert daemon.plan("ct_netif_ip_add", container="web", netif="eth0", addresses=["1.2.3.4"]) == [
        "# on the host",
        "nft add element inet osctl stopped4 '{ 1.2.3.4/32 }'",
    ]
    assert daemon.call("ct_netif_ip_ls") == []
    for asking in ("ct_ls", "self_status"):
        with pytest.raises(ValueError, match=f"{asking} changes nothing and has no plan"):
            daemon.plan(asking)


def test_a_command_runs_on_the_programs_descriptors(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"])
    reading, writing = os.pipe()
    empty = os.open("/dev/null", os.O_RDONLY)

    with osctl.client.connect(str(host.socket)) as daemon:
        status = daemon.execute("web", ["sh", "-c", "echo inside; exit 7"], stdin=empty, stdout=writing, stderr=writing)
        os.close(writing)
        assert daemon.call("ping") == ["pong"]

    with open(reading, "rb") as pipe:
        assert (status, pipe.read()) == (7, b"inside\n")
    os.close(empty)


# --- schemas ------------------------------------------------------------------------------------------------------


def typed(parameter: Parameter, value: str | list[str]) -> list[str]:
    """What stands on a command line for what a program passes."""
    values = [value] if isinstance(value, str) else value
    is_option = isinstance(parameter.declaration, Option)
    return [word for each in values for word in ([longest_name(parameter), each] if is_option else [each])]


def test_every_list_and_every_record_follows_its_schema(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30", "2001:db8:2:1::/126"])
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "10.5.5.1/24")
    host.osctl("ct", "netif", "route", "add", "web", "eth0", "--via", "1.2.3.4", "203.0.113.0/24")
    host.osctl("ct", "netif", "source", "add", "web", "eth0", "100.64.0.0/10")
    host.osctl("ct", "new", "--distribution", "busybox", "stopped")
    host.sysctl(host.H, "net/ipv4/conf/all/rp_filter", "2")  # something for `self check` to find
    host.osctl("net", "uplink", "add", "up0")
    host.osctl("net", "block", "203.0.113.0/24")
    arguments = {"container": "web", "netif": "eth0", "network": "1.2.3.4", "next_hop": ["192.0.2.1"]}
    checked = set()

    with osctl.client.connect(str(host.socket)) as daemon:
        for name, command in commands().items():
            if not command.columns:
                continue
            known = parameters(command)
            required: dict[str, Any] = {key: arguments[key] for key, each in known.items() if each.is_required}
            response = daemon.call(name, **required)
            # A check that finds something exits with 1 and prints it all the same.
            words = [word for key, value in required.items() for word in typed(known[key], value)]
            printed = json.loads(host.osctl("-j", *command.words, *words, check=False).stdout)
            for answer in (response, printed):
                assert answer or name in ("self_check", "net_pool_ls", "router_show")
                assert violations(answer, published(f"osctl/{name}")) == []
            checked.add(name)

    assert {"ct_ls", "ct_show", "ct_netif_ls", "ct_netif_show", "self_status"} <= checked


def test_every_answer_to_the_original_follows_its_schema(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"])
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")
    eth0 = {"id": "web", "name": "eth0"}
    dialogue: list[tuple[str, dict[str, Any]]] = [
        *(("self_ping", {}), ("ct_list", {}), ("ct_show", {"id": "web"}), ("group_cgsubsystems", {})),
        *(("group_list", {}), ("group_show", {"name": "/default"})),
        *(("pool_list", {}), ("pool_show", {"name": "default"}), ("user_list", {}), ("user_show", {"name": "web"})),
        *(("netif_list", {}), ("netif_show", eth0), ("netif_ip_list", {}), ("netif_route_list", {})),
        *(("netif_ip_add", {**eth0, "addr": "1.2.3.5", "route": True}), ("netif_ip_del", {**eth0, "addr": "1.2.3.5"})),
        *(("netif_route_add", {**eth0, "addr": "1.2.3.6"}), ("netif_route_del", {**eth0, "addr": "1.2.3.6"})),
        *(("netif_set", {**eth0, "hwaddr": "02:00:00:00:00:07"}), ("ct_start", {"id": "web"})),
        *(("netif_rename", {"id": "web", "old_name": "eth0", "new_name": "a"}),),
        *(("netif_delete", {**eth0, "name": "a"}), ("netif_create", {**eth0, "type": "routed", "via": {}})),
        *(("ct_restart", {"id": "web", "stop_method": "kill"}),),
        *(("ct_stop", {"id": "web", "method": "kill"}), ("ct_delete", {"id": "web"})),
        ("ct_create", {"id": "web", "user": "u", "distribution": "busybox"}),
        ("ct_set", {"id": "web", "autostart": {"priority": 1, "delay": 0}}),
        *(("ct_unset", {"id": "web", "autostart": True}), ("self_shutdown", {})),
    ]
    # What answers null by nature, or is no single answer.
    untold = {"event_subscribe", "history_list", "user_create", "user_delete"}
    message = published("message")

    with OriginalClient(host.socket) as client:
        for name, opts in dialogue:
            client.send(name, **opts)
            answer = client.answer()
            assert violations(answer, message) == []
            assert violations(answer["response"], published(f"original/{name}")) == [], name

    assert {name for name, _ in dialogue} | {"ct_exec"} == set(requests()) - untold


def test_nothing_is_published_that_nobody_can_ask_for() -> None:
    named = {str(file.relative_to(SCHEMAS).with_suffix("")) for file in SCHEMAS.rglob("*.json")}

    assert named == {
        *("plan", "error", "message"),
        *(f"osctl/{name}" for name in commands()),
        *(f"original/{name}" for name in requests()),
    }


# --- many, and wild ones ------------------------------------------------------------------------------------------


@pytest.mark.time_limit(180)
def test_a_hundred_clients_at_once_lose_no_change(host: Topology) -> None:
    for number in range(4):
        host.osctl("ct", "new", "--distribution", "busybox", f"c{number}")
        host.osctl("ct", "netif", "new", "routed", f"c{number}", "eth0")
    failures: list[BaseException] = []

    def add(number: int) -> None:
        try:
            with osctl.client.connect(str(host.socket)) as daemon:
                for each in (2 * number, 2 * number + 1):
                    daemon.call(
                        "ct_netif_ip_add", container=f"c{each % 4}", netif="eth0", addresses=[f"198.51.100.{each}"]
                    )
        except BaseException as error:  # noqa: BLE001 told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    wanted = {f"198.51.100.{each}/32" for each in range(200)}
    assert {row["addr"] for row in host.osctl_json("ct", "netif", "ip", "ls")} == wanted
    host.restart_daemon()
    assert {row["addr"] for row in host.osctl_json("ct", "netif", "ip", "ls")} == wanted


def test_bad_half_huge_and_crowded_lines_are_answered_in_their_order(idle_host: Topology) -> None:
    ping = b'{"cmd":"self_ping","opts":{}}\n'
    with OriginalClient(idle_host.socket) as client:
        client.socket.sendall(b"nonsense\n" + ping + b"[1]\n\n" + b'{"cmd":"ct_show","opts":{"id":"none"}}\n' + ping)
        crowded = [client.message() for _ in range(6)]
        for piece in (ping[:5], ping[5:20], ping[20:]):
            client.socket.sendall(piece)
        half = client.message()
        client.socket.sendall(b'{"cmd":"self_ping","opts":{"cli":"' + b"x" * 10_000_000 + b'"}}\n')
        huge = client.message()

    codes = [each.get("code") or each["response"] for each in crowded]
    assert codes == ["bad-json", "pong", "bad-request", "bad-json", "container-not-found", "pong"]
    assert (half["response"], huge["response"]) == ("pong", "pong")
    with OriginalClient(idle_host.socket) as client:
        client.socket.sendall(ping[:7])  # and goes away
    with OriginalClient(idle_host.socket) as client:
        assert client.call("self_ping") == "pong"


def test_requests_of_many_megabytes_are_not_kept(idle_host: Topology) -> None:
    word = "x" * 10_000_000
    before = resident_megabytes(idle_host)

    def ask() -> None:
        with OriginalClient(idle_host.socket) as client:
            client.socket.sendall(b'{"cmd":"' + word.encode())  # and goes away
        with OriginalClient(idle_host.socket) as client:
            assert "not found" in client.error("netif_ip_add", id="none", name="eth0", addr=word)

    with ThreadPoolExecutor(12) as clients:
        for asked in [clients.submit(ask) for _ in range(24)]:
            asked.result()

    def is_given_back() -> bool:
        with OriginalClient(idle_host.socket) as client:
            client.call("ct_list")  # Python looks for circles among what was allocated, now and then
        idle_host.osctl("net", "reconcile")  # or a minute later
        return resident_megabytes(idle_host) < before + 20

    wait_until(is_given_back, "of 480 megabytes nearly nothing is left", seconds=20)


def resident_megabytes(host: Topology) -> float:
    pages = int(Path(f"/proc/{host.daemon_pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.time_limit(180)
def test_ten_thousand_random_requests_are_answered_and_the_daemon_lives(host: Topology) -> None:
    host.osctl("ct", "new", "--distribution", "busybox", "web")
    chance = random.Random(8)
    # Those that take long, or for ever, have tests of their own.
    slow = {"ct_new", "ct_create", "ct_start", "ct_restart", "ct_wait", "ct_monitor", "monitor", "event_subscribe"}
    names = sorted({*commands(), *requests(), "nonsense"} - slow)
    values = [
        *("web", "eth0", "default:web", "1.2.3.4", "1.2.3.4/24", "::1/64", "10.0.0.0/30", "all", "", "\x00", "ě"),
        *(0, 4, 6, -1, 1 << 40, 1.5, True, False, None, [], {}, ["web"], ["1.2.3.4"]),
        {"4": {"network": "10.0.0.0/30"}},
    ]
    keys = sorted(
        {"dry_run", "pool", "cli", "frob"}
        | {field for each in commands().values() for field in each.__struct_fields__}
        | {field for each in requests().values() for field in each.__struct_fields__}
    )

    def opts(name: str) -> dict[str, Any]:
        kind = requests().get(name) or commands().get(name)
        likely = kind.__struct_fields__ if kind is not None else keys
        made = {key: chance.choice(values) for key in likely if chance.random() < 0.7}
        if chance.random() < 0.1:
            made[chance.choice(keys)] = chance.choice(values)
        return made

    message = published("message")
    answered = {True: 0, False: 0}
    with OriginalClient(host.socket) as client:
        for _ in range(10_000):
            name = chance.choice(names)
            client.socket.sendall(json.dumps({"cmd": name, "opts": opts(name)}).encode() + b"\n")
            while True:
                answer = client.message()
                assert violations(answer, message) == []
                if "progress" not in answer:
                    break
            answered[answer["status"]] += 1
        assert client.call("self_ping") == "pong"

    assert min(answered.values()) > 300, answered
    assert "Traceback" not in host.log_text()
    wait_until(lambda: host.osctl("ping").stdout == "pong\n", "it answers people too")
