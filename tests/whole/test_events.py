"""monitor, wait, history: what the daemon tells of what happens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from whole.bare_daemon import BARE, power_off
from whole.host import BIN, Topology, wait_until
from whole.monitor import Monitor, everything, happened, monitor
from whole.original_client import OriginalClient


@pytest.fixture(scope="module")
def lasting() -> Iterator[Topology]:
    """One host for all tests of the file; containers are bare namespaces."""
    with Topology(program=BARE) as host:
        yield host


def test_every_change_is_told_in_order_and_numbered_without_gaps(lasting: Topology) -> None:
    with everything(lasting) as listener:
        lasting.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
        lasting.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.4/32")
        lasting.osctl("ct", "del", "-f", "web")
        wait_until(lambda: '"remove"' in listener.lines[-2], "the end of the container is told")

        events = [json.loads(line) for line in listener.lines]
        told = [
            (each["type"], each["opts"].get("action") or each["opts"].get("state") or "")
            for each in happened(listener)
            if each["type"] != "ct_wanted"
        ]

    assert told == [
        ("db", "add"),
        ("ct_netif", "add"),
        ("ct_netif_address", "add"),
        ("ct_netif_route", "add"),
        ("state", "starting"),
        ("ct_netif", "up"),
        ("state", "running"),
        ("ct_netif_address", "remove"),
        ("ct_netif_route", "remove"),
        ("state", "stopping"),
        ("ct_netif", "down"),
        ("state", "stopped"),
        ("ct_netif", "remove"),
        ("db", "remove"),
    ]
    numbers = [each["sequence"] for each in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_command_is_told_when_it_begins_and_how_it_ended(lasting: Topology) -> None:
    with everything(lasting) as listener:
        lasting.osctl("ct", "new", "--distribution", "busybox", "app")
        wait_until(lambda: '"done"' in listener.lines[-1], "the command is told to be done")
        lasting.osctl("ct", "del", "app")

        ours = [json.loads(line)["opts"] for line in listener.lines if '"ct_new"' in line]

    assert [each["state"] for each in ours] == ["run", "done"]
    assert len({each["id"] for each in ours}) == 1
    assert ours[0]["opts"]["container"] == "app"


def test_a_command_is_told_with_all_that_it_was_given_and_with_what_was_typed(lasting: Topology) -> None:
    lasting.new_container("app", via=["10.100.10.108/30"], start=False)
    with everything(lasting) as listener, OriginalClient(lasting.socket) as client:
        client.call("netif_create", id="app", name="eth1", type="routed", via={"4": {"network": "10.100.10.112/30"}})
        lasting.osctl("ct", "netif", "ip", "add", "app", "eth0", "1.2.3.4", "--no-route")
        wait_until(lambda: ends_of(listener, "ct_netif_ip_add") == ["run", "done"], "it is told to be done")
        told = {
            each["opts"]["cmd"]: each["opts"]["opts"]
            for each in map(json.loads, listener.lines)
            if each["type"] == "management" and each["opts"]["state"] == "done"
        }
    lasting.delete_containers()

    assert told["ct_netif_ip_add"]["addresses"] == ["1.2.3.4"]
    assert told["ct_netif_ip_add"]["cli"].endswith("ct netif ip add app eth0 1.2.3.4 --no-route")
    created = told["netif_create"]
    assert (created["id"], created["name"], created["type"]) == ("app", "eth1", "routed")
    assert created["via"]["4"]["network"] == "10.100.10.112/30"
    assert created["cli"] == "osctl netif create"


def ends_of(listener: Monitor, command: str) -> list[str]:
    told = [json.loads(line)["opts"] for line in listener.lines if f'"{command}"' in line]
    return [each["state"] for each in told]


@pytest.mark.parametrize(
    "words", [("monitor",), ("ct", "monitor", "web"), ("ct", "wait", "web", "stopped"), ("ct", "exec", "web", "cat")]
)
def test_who_leaves_what_they_follow_has_not_failed(lasting: Topology, words: tuple[str, ...]) -> None:
    lasting.new_container("web")
    command = "_".join(words[: 1 if words[0] == "monitor" else 2])
    with everything(lasting) as listener:
        already = len(ends_of(listener, command))
        # Standard input stays open: what reads it does not end by itself.
        argv = [str(BIN / "osctl"), "--socket", str(lasting.socket), *words]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            wait_until(lambda: ends_of(listener, command)[already:] == ["run"], "it is followed")
            client.kill()
            wait_until(lambda: len(ends_of(listener, command)) > already + 1, "its end is told")

        assert ends_of(listener, command)[already:] == ["run", "left"]
    lasting.delete_containers()


def test_an_edit_whose_client_leaves_is_told_to_be_done_when_it_is(lasting: Topology) -> None:
    lasting.new_container("web", via=["10.100.10.100/30"])
    many = "".join(f"20.{number >> 8}.{number & 255}.0/24\n" for number in range(20_000))
    with everything(lasting) as listener:
        argv = [str(BIN / "osctl"), "--socket", str(lasting.socket), "ct", "netif", "route", "add", "web", "eth0", "-"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as client:
            assert client.stdin is not None
            client.stdin.write(many)
            client.stdin.close()
            wait_until(lambda: ends_of(listener, "ct_netif_route_add"), "it has begun")
            client.kill()

        wait_until(lambda: ends_of(listener, "ct_netif_route_add") == ["run", "done"], "its end is told")
    assert len(lasting.osctl_json("ct", "netif", "route", "ls", "web", "eth0")) == 20_000
    lasting.delete_containers()


def test_numbers_of_events_grow_over_a_kill_of_the_daemon(lasting: Topology) -> None:
    with everything(lasting) as listener:
        before = json.loads(listener.lines[-1])["sequence"]
    lasting.kill_daemon()
    lasting.start_daemon()
    with everything(lasting) as listener:
        after = json.loads(listener.lines[0])["sequence"]

    assert after > before


def test_the_states_of_one_container_are_printed_as_the_original_does(lasting: Topology) -> None:
    lasting.new_container("one", start=False)
    lasting.new_container("two", start=False)
    with monitor(lasting, "ct", "monitor", "one") as listener:

        def goes_up_and_down() -> bool:
            for verb in ("start", "stop"):
                lasting.osctl("ct", verb, "two")
                lasting.osctl("ct", verb, "one")
            return len(listener.lines) >= 4

        wait_until(goes_up_and_down, "the monitor hears of it")
        heard = listener.lines[-4:]
    lasting.delete_containers()

    assert heard == [f"state default one {state}\n" for state in ("starting", "running", "stopping", "stopped")]


def test_wait_returns_at_once_or_as_soon_as_the_state_is_there(lasting: Topology) -> None:
    lasting.new_container("web")

    lasting.osctl("ct", "wait", "web", "running", "stopped")
    with monitor(lasting, "ct", "wait", "web", "stopped") as waiting:
        power_off(lasting.run_dir, "web")
        status = waiting.process.wait(timeout=10)
    lasting.delete_containers()

    assert status == 0


def test_wait_ends_with_an_error_when_the_container_is_deleted(lasting: Topology) -> None:
    lasting.new_container("web", start=False)

    with monitor(lasting, "ct", "wait", "web", "running") as waiting:
        # Whether it came before or after, the container is not there.
        lasting.osctl("ct", "del", "web")
        status = waiting.process.wait(timeout=10)

    assert status == 1


def test_an_unknown_state_is_refused(lasting: Topology) -> None:
    lasting.new_container("web", start=False)

    refused = lasting.osctl("ct", "wait", "web", "flying", check=False)
    lasting.delete_containers()

    assert refused.status != 0
    assert "'flying'" in refused.stderr


def test_history_shows_the_commands_that_changed_something_and_no_others(lasting: Topology) -> None:
    lasting.new_container("web")
    lasting.osctl("ct", "start", "web")
    lasting.osctl("ct", "ls")
    lasting.osctl("ct", "stop", "web")
    lasting.osctl("ct", "del", "web")

    rows = lasting.osctl_json("history", "default")

    assert [row["command"].split()[-2:] for row in rows[-3:]] == [["start", "web"], ["stop", "web"], ["del", "web"]]
    assert rows[-1]["pool"] == "default"
    assert "'nowhere'" in lasting.refusal("history", "nowhere")


def test_a_dry_run_of_an_action_says_what_would_be_done_and_does_nothing(lasting: Topology) -> None:
    lasting.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"], start=False)
    stored = lasting.stored()

    start = lasting.osctl("--dry-run", "ct", "start", "web").stdout
    no_more = "nft delete element inet osctl stopped4 '{ 1.2.3.4/32 }'\n"
    lines = [
        lasting.osctl("ct", "del", "--dry-run", "web").stdout,
        lasting.osctl("ct", "stop", "--dry-run", "web").stdout,
        lasting.osctl("ct", "new", "--dry-run", "--distribution", "busybox", "other").stdout,
    ]

    assert start.startswith("# start container web: its namespaces, then this, then its first process\n# on the host\n")
    assert "1.2.3.4" in start
    assert lines == [
        f"# delete container web and everything in it\n# on the host\n{no_more}",
        "# nothing to change\n",
        "# create container other, stopped and without interfaces\n",
    ]
    assert lasting.stored() == stored
    assert [each["state"] for each in lasting.osctl_json("ct", "ls")] == ["stopped"]
    lasting.delete_containers()


def test_what_somebody_changes_inside_is_told_and_what_is_put_back_too(lasting: Topology) -> None:
    lasting.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
    with everything(lasting) as listener:
        lasting.in_guest_network("web", "ip", "addr", "del", "1.2.3.4/32", "dev", "eth0")
        lasting.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
        lasting.osctl("net", "reconcile", "web")
        wait_until(lambda: any('"mended"' in line for line in listener.lines), "it is put back")

        drift = [each["opts"] for each in happened(listener) if each["type"] == "drift"]
        (mended,) = [each["opts"]["what"] for each in happened(listener) if each["type"] == "mended"]

    assert [each["id"] for each in drift] == ["web", "web"]
    assert "addr 1.2.3.4/32 dev eth0" in drift[0]["differences"]
    assert drift[1]["differences"] == []
    assert "repaired addr 1.2.3.4/32 dev eth0 in container web" in mended
    lasting.delete_containers()
