"""What an operator does with the store: copies, ways back, and a store that is lost, damaged or of another schema."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osctld.config import SCHEMA
from whole.bare_daemon import BARE
from whole.disk_in_a_file import fill
from whole.host import BIN, Result, Topology, differences, run, wait_until

VIAS = ("10.100.10.100/30", "fd00:1::/126")
ADD, DELETE = ("ct", "netif", "ip", "add"), ("ct", "netif", "ip", "del")
COPY = "osctl.backup"


@pytest.fixture
def copy(tmp_path: Path) -> str:
    """Where a copy is to go."""
    return str(tmp_path / COPY)


def configured(host: Topology) -> dict[str, Any]:
    """All that is wanted, as it is on disk, and no history: neither when and how often something was given, nor what
    was held before.

    Holders are told by their UUIDs and names, for the numbers of their rows mean nothing.
    """
    stored: dict[str, Any] = dict(host.stored())
    names = {holder: (container, interface) for holder, _, container, interface in stored["label"]}
    holders = {number: (uuid, container, *names[number]) for number, uuid, container in stored["holder"]}
    holdings = sorted((*row[:4], *holders[row[4]], row[6]) for row in stored["holding"])
    return {"holding": holdings, **{name: stored[name] for name in ("host", "container", "uplink")}}


def without_generations(configuration: dict[str, Any]) -> dict[str, Any]:
    documents = {name: json.loads(each) for name, each in dict(configuration["container"]).items()}
    for each in documents.values():
        del each["generation"]
    return {**configuration, "container": documents}


def osctld(host: Topology, *words: str) -> Result:
    """The daemon's program, which is to do something else than serve."""
    return run(str(BIN / "osctld"), *host.daemon_arguments, *words, check=False)


def refusal(result: Result) -> str:
    assert result.status == 1, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: "), result
    assert result.stderr.count("\n") == 1, result
    return result.stderr.removeprefix("error: ").rstrip()


def mirror(host: Topology, container: str) -> Path:
    return host.state_dir / "ct" / container / "container.json"


def wait_for_mirrors(host: Topology) -> None:
    """Until each says what is stored."""
    documents = dict(host.stored()["container"])

    def are_written() -> bool:
        places = {name: mirror(host, name) for name in documents}
        return all(each.is_file() and documents[name] in each.read_bytes() for name, each in places.items())

    wait_until(are_written, "mirrors are written")


# --- copies ------------------------------------------------------------------------------------------------------


def test_what_was_changed_since_a_copy_is_as_it_was_then_after_a_restore(bare: Topology, copy: str) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4",), start=False)
    bare.new_container("db", via=("10.100.10.104/30",), addresses=("1.2.3.5",))
    before = configured(bare)
    said = bare.osctl("self", "backup", copy).stdout
    bare.osctl(*ADD, "web", "eth0", "1.2.3.6", "2001:db8:2::6")
    bare.osctl(*DELETE, "web", "eth0", "1.2.3.4")
    running = bare.comparable_state("db")
    history = [each["command"] for each in bare.osctl_json("history")]

    planned = bare.osctl("--dry-run", "self", "restore", "--take", copy).stdout
    restored = bare.osctl("self", "restore", "--take", copy).stdout

    assert "containers: 2, interfaces: 2" in said
    assert "not included: root directories" in said
    assert planned == restored
    assert "web: restored" in restored
    assert "db" not in restored
    assert without_generations(configured(bare)) == without_generations(before)
    # Nobody who remembers a generation of before, of either configuration, changes what is there now.
    generations = {name: json.loads(each)["generation"] for name, each in dict(bare.stored()["container"]).items()}
    assert generations == {"web": 5, "db": 2}
    assert not differences(running, bare.comparable_state("db"))
    assert [each["command"] for each in bare.osctl_json("history")] == [*history, f"osctl self restore --take {copy}"]
    # Others may have what is free again, and nobody what is held again.
    assert "1.2.3.4" in bare.refusal(*ADD, "db", "eth0", "1.2.3.4")
    bare.osctl(*ADD, "db", "eth0", "1.2.3.6")
    bare.osctl("ct", "start", "web")
    assert bare.ping(bare.R, "1.2.3.4") == 3
    now = configured(bare)
    bare.restart_daemon()
    assert configured(bare) == now


def routed_to(host: Topology, container: str) -> set[str]:
    found = [
        *host.ip_json(host.H, "-4", "route", "show", "dev", host.veth(container), "proto", "111"),
        *host.ip_json(host.H, "-6", "route", "show", "dev", host.veth(container), "proto", "111"),
    ]
    return {each["dst"] for each in found}


def test_what_was_given_up_since_a_copy_is_parked_until_it_is_taken(bare: Topology, copy: str) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4", "1.2.3.5", "1.2.3.6", "2001:db8:2::4"), start=False)
    bare.new_container("db", via=("10.100.10.104/30",), addresses=("1.2.3.9",))
    bare.osctl("self", "backup", copy)
    bare.osctl(*DELETE, "web", "eth0", "1.2.3.4", "2001:db8:2::4", "1.2.3.6")
    bare.osctl(*ADD, "web", "eth0", "1.2.3.6")  # given up, and held again
    bare.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.108/30", "web", "eth1")
    bare.osctl("ct", "netif", "ip", "move", "web", "eth0", "web", "eth1", "1.2.3.5")  # it stayed the container's
    parked = "web: parked, because given up since then: 1.2.3.4/32, 2001:db8:2::4/128"

    planned = bare.osctl("--dry-run", "self", "restore", copy).stdout
    restored = bare.osctl("self", "restore", copy).stdout

    assert planned == restored
    assert f"{parked}; osctl ct netif take web NETIF all takes them back\n" in restored
    assert {each["state"] for each in bare.osctl_json("net", "who", "1.2.3.4")} == {"parked"}
    bare.osctl("ct", "start", "web")
    assert routed_to(bare, "web") == {"1.2.3.5", "1.2.3.6"}
    assert bare.ping(bare.R, "1.2.3.4", count=1) == 0
    bare.restart_daemon()
    assert routed_to(bare, "web") == {"1.2.3.5", "1.2.3.6"}
    bare.osctl("ct", "netif", "take", "web", "eth0", "all")
    assert routed_to(bare, "web") == {"1.2.3.4", "1.2.3.5", "1.2.3.6", "2001:db8:2::4"}
    assert (bare.ping(bare.R, "1.2.3.4"), bare.ping(bare.R, "2001:db8:2::4")) == (3, 3)
    assert bare.ping(bare.R, "1.2.3.9") == 3


def test_a_store_older_than_what_is_beside_the_roots_parks_what_others_hold_by_now(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4", "1.2.3.5", "1.2.3.6", "2001:db8:2::4"))
    bare.new_container("db", via=("10.100.10.104/30", "fd00:2::/126"))
    file = bare.state_dir / "osctl.sqlite"
    bare.restart_daemon()  # all of it in one file
    old = file.read_bytes()
    bare.osctl(*DELETE, "web", "eth0", "1.2.3.4")
    bare.osctl("ct", "netif", "ip", "move", "web", "eth0", "db", "eth0", "1.2.3.5", "2001:db8:2::4")
    wait_for_mirrors(bare)
    bare.stop_daemon()
    for each in bare.state_dir.glob("osctl.sqlite*"):
        each.unlink()
    file.write_bytes(old)

    bare.start_daemon()

    told = (
        "web: parked, because the store is older than the documents beside the containers' root directories: "
        "1.2.3.4/32, 1.2.3.5/32"
    )
    assert f"{told}, 2001:db8:2::4/128" in bare.log_text()
    assert routed_to(bare, "web") == {"1.2.3.6"}
    assert bare.ping(bare.R, "1.2.3.6") == 3
    bare.restart_daemon()  # the documents are those of the store now, and what is parked stays so
    assert routed_to(bare, "web") == {"1.2.3.6"}
    bare.osctl("ct", "netif", "take", "web", "eth0", "1.2.3.5/32")
    bare.osctl("ct", "restart", "-k", "web")  # inside, it has been taken away
    assert routed_to(bare, "web") == {"1.2.3.5", "1.2.3.6"}
    assert bare.ping(bare.R, "1.2.3.5") == 3


def test_a_copy_is_its_owners_alone_and_never_in_the_place_of_another_file(bare: Topology, tmp_path: Path) -> None:
    bare.new_container("web", start=False)
    there = tmp_path / "there"
    there.write_text("precious")
    new = tmp_path / "new"
    bare.osctl("self", "backup", str(new))

    assert "File exists" in bare.refusal("self", "backup", str(there))
    assert "No such file" in bare.refusal("self", "backup", str(tmp_path / "nowhere" / "copy"))
    assert there.read_text() == "precious"
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(f"file:{new}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert [name for (name,) in database.execute("SELECT name FROM container")] == ["web"]


def test_a_copy_that_does_not_fit_is_told_and_nothing_of_it_is_left(bare: Topology) -> None:
    bare.new_container("web", start=False)
    place = bare.directory / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8k", "none", str(place))

    said = bare.refusal("self", "backup", str(place / COPY))

    assert said.endswith("cannot be written: No space left on device")
    assert list(place.iterdir()) == []


def test_a_copy_can_be_made_while_the_disk_of_the_store_is_full(copy: str) -> None:
    with Topology(start_daemon=False, program=BARE) as host:
        host.state_dir.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(host.state_dir))
        host.start_daemon()
        host.new_container("web", via=VIAS, start=False)
        fill(host.state_dir)

        host.osctl("self", "backup", copy)

        assert "disk is full" in host.refusal(*ADD, "web", "eth0", *(f"1.2.3.{n}" for n in range(200)))
        found = osctld(host, "--check")
        assert (found.status, found.stderr) == (1, "")
        assert f"error: {host.state_dir}: 0 MB free; find what fills it: du" in found.stdout
    with Topology(program=BARE) as other:
        other.osctl("self", "restore", "--replace-host", copy)
        assert [each["id"] for each in other.osctl_json("ct", "ls")] == ["web"]


def _other_content(_host: Topology, copy: str) -> str:
    Path(copy).write_bytes(b"not a copy at all, but long enough for a header " * 10)
    return "not a copy made by osctl self backup"


def _empty(_host: Topology, copy: str) -> str:
    Path(copy).write_bytes(b"")
    return "not a copy made by osctl self backup"


def _torn(_host: Topology, copy: str) -> str:
    content = Path(copy).read_bytes()
    Path(copy).write_bytes(content[: len(content) // 2])
    return "not a copy made by osctl self backup"


def _damaged(_host: Topology, copy: str) -> str:
    content = bytearray(Path(copy).read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    Path(copy).write_bytes(content)
    return "damaged"


def _newer(_host: Topology, copy: str) -> str:
    with contextlib.closing(sqlite3.connect(copy)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    return f"has schema {SCHEMA + 1}, this osctld supports {SCHEMA}"


def _added(host: Topology, _copy: str) -> str:
    host.new_container("shop", start=False)
    return "'shop': not in"


def _made_anew(host: Topology, _copy: str) -> str:
    host.osctl("ct", "del", "web")
    host.new_container("web", start=False)
    return "'web': a different container in"


def _running(host: Topology, _copy: str) -> str:
    host.osctl("ct", "start", "web")
    host.osctl(*ADD, "web", "eth0", "1.2.3.9")
    return "'web': running, and configured differently in"


def _used_by_the_host(host: Topology, _copy: str) -> str:
    host.osctl(*DELETE, "web", "eth0", "1.2.3.4")
    host.ip(host.H, "addr", "add", "1.2.3.4/32", "dev", "up0")
    return "web of "


@pytest.mark.parametrize(
    "spoil",
    [_other_content, _empty, _torn, _damaged, _newer, _added, _made_anew, _running, _used_by_the_host],
    ids=lambda each: each.__name__.strip("_"),
)
def test_a_restore_that_is_refused_changes_nothing(
    bare: Topology, copy: str, spoil: Callable[[Topology, str], str]
) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4",), start=False)
    bare.osctl("self", "backup", copy)
    reason = spoil(bare, copy)
    bare.osctl("net", "reconcile")  # the host forwards from here on

    said = bare.refusal_without_trace("self", "restore", copy)

    assert reason in said
    assert COPY in said
    assert reason in bare.refusal_without_trace("--dry-run", "self", "restore", copy)


def test_a_new_machine_becomes_the_host_that_died_and_starts_what_ran_there(bare: Topology, copy: str) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4", "2001:db8:2::4"))
    bare.new_container("db", start=False)
    before, history = configured(bare), bare.stored()["history"]
    bare.osctl("self", "backup", copy)
    with Topology(program=BARE) as other:
        assert "made on another host" in other.refusal_without_trace("self", "restore", copy)

        said = other.osctl("self", "restore", "--replace-host", copy).stdout

        assert "this host is" in said
        root = f"{other.state_dir}/ct/web/rootfs"
        assert f"web: no root directory, which the copy does not include; put it at {root}" in said
        assert "running then, to be started when osctld next starts: web" in said
        assert configured(other) == before
        assert [row[2] for row in other.stored()["history"][:-1]] == [row[2] for row in history]
        for name in ("web", "db"):
            (other.state_dir / "ct" / name / "rootfs").mkdir(parents=True)
        other.restart_daemon()
        wait_until(lambda: other.osctl_json("ct", "show", "web")["state"] == "running", "web is started")
        assert other.ping(other.R, "1.2.3.4") == 3
        assert other.osctl_json("ct", "show", "db")["state"] == "stopped"
        wait_for_mirrors(other)
        # From now on it is that host: a copy of it is one of its own.
        Path(copy).unlink()
        other.osctl("self", "backup", copy)
        other.osctl("self", "restore", copy)


def test_what_a_dead_host_gave_up_after_its_last_copy_is_parked_on_the_new_machine(bare: Topology, copy: str) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4", "1.2.3.5", "2001:db8:2::4"))
    bare.osctl("self", "backup", copy)
    bare.osctl(*DELETE, "web", "eth0", "1.2.3.4", "2001:db8:2::4")
    wait_for_mirrors(bare)
    with Topology(program=BARE) as other:
        shutil.copytree(bare.state_dir / "ct", other.state_dir / "ct", dirs_exist_ok=True)

        said = other.osctl("self", "restore", "--replace-host", copy).stdout

        assert "web: parked, because given up since then: 1.2.3.4/32, 2001:db8:2::4/128; osctl ct netif take" in said
        other.restart_daemon()
        wait_until(lambda: other.osctl_json("ct", "show", "web")["state"] == "running", "web is started")
        assert routed_to(other, "web") == {"1.2.3.5"}


# --- a store that is lost or damaged -----------------------------------------------------------------------------


def test_each_document_stands_beside_its_root_soon_after_it_was_saved(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4",))
    wait_for_mirrors(bare)
    bare.osctl(*ADD, "web", "eth0", "1.2.3.5")
    wait_for_mirrors(bare)
    bare.osctl(*ADD, "web", "eth0", "1.2.3.6")
    bare.kill_daemon()

    bare.start_daemon()

    wait_for_mirrors(bare)
    bare.osctl(*ADD, "web", "eth0", "1.2.3.7")
    bare.stop_daemon()
    # In peace, it writes what is left.
    ((_, document),) = bare.stored()["container"]
    assert document in mirror(bare, "web").read_bytes()
    bare.start_daemon()
    bare.osctl("ct", "del", "-f", "web")
    assert not mirror(bare, "web").parent.exists()


def _lose(file: Path) -> None:
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()


def _overwrite(file: Path) -> None:
    _lose(file)
    file.write_bytes(os.urandom(40960))


def _empty_it(file: Path) -> None:
    _lose(file)
    file.touch()


def _damage_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)


def _damage_documents(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE container SET document = substr(document, 5)")
        database.commit()


def _damage_holdings(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("DELETE FROM holding WHERE holder IN (SELECT holder FROM label WHERE container = 'web')")
        database.commit()


@pytest.mark.parametrize(
    "spoil",
    [_lose, _overwrite, _damage_pages, _damage_documents, _damage_holdings],
    ids=lambda each: each.__name__.strip("_"),
)
def test_a_lost_or_damaged_store_is_told_in_a_line_and_rebuilt_while_containers_run_on(
    bare: Topology, spoil: Callable[[Path], None]
) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4", "2001:db8:2::4"))
    bare.new_container("db", via=("10.100.10.104/30",), start=False)
    bare.osctl("ct", "new", "--distribution", "busybox", "gone")
    bare.osctl("ct", "del", "gone")
    wait_for_mirrors(bare)
    before, running = configured(bare), bare.comparable_state("web")
    bare.stop_daemon()
    file = bare.state_dir / "osctl.sqlite"
    spoil(file)

    found = osctld(bare, "--check")
    assert (found.status, found.stderr) == (1, "")
    assert f"osctld --state-dir {bare.state_dir} --recover" in found.stdout
    if spoil is not _damage_holdings:  # which a daemon does not read
        started = osctld(bare)
        assert f"osctld --state-dir {bare.state_dir} --" in refusal(started)
    assert bare.ping(bare.R, "1.2.3.4") == 3

    done = osctld(bare, "--recover")

    assert (done.status, done.stderr) == (0, ""), done
    assert "web: from " in done.stdout
    assert "interfaces: 1" in done.stdout
    assert "rebuilt, containers: 2" in done.stdout
    if spoil is not _lose:
        (kept,) = (each for each in bare.state_dir.glob("osctl.sqlite.damaged-*") if not each.name.endswith("-wal"))
        assert f"the previous store: {kept}" in done.stdout
    found = osctld(bare, "--check")
    assert (found.status, found.stdout.count("\n")) == (0, 1), found
    bare.start_daemon()
    assert configured(bare) == before
    assert not differences(running, bare.comparable_state("web"))
    bare.osctl("ct", "start", "db")
    bare.osctl("ct", "new", "--distribution", "busybox", "gone")
    assert bare.osctl_json("ct", "show", "web")["state"] == "running"


def test_a_store_that_lost_its_log_is_rebuilt_of_the_newer_documents(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4",), start=False)
    bare.stop_daemon()
    old = (bare.state_dir / "osctl.sqlite").read_bytes()
    bare.start_daemon()
    bare.osctl(*ADD, "web", "eth0", "1.2.3.5")
    wait_for_mirrors(bare)
    before = configured(bare)
    bare.stop_daemon()
    (bare.state_dir / "osctl.sqlite").write_bytes(old)
    assert "differs from the stored document of web" in osctld(bare, "--check").stdout

    osctld(bare, "--recover", "--force")

    bare.start_daemon()
    assert configured(bare) == before


def test_a_store_that_is_sound_or_in_use_is_not_rebuilt(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, start=False)
    before = bare.stored()

    assert "in use by another osctld" in refusal(osctld(bare, "--recover", "--force"))
    assert "in use by another osctld" in refusal(osctld(bare, "--restore-schema", "2"))
    wait_for_mirrors(bare)
    assert osctld(bare, "--check") == (
        0, f"{bare.state_dir}/osctl.sqlite: sound, schema {SCHEMA}, containers: 1\n", ""
    )  # fmt: skip
    bare.stop_daemon()
    assert ": sound; --force rebuilds it" in refusal(osctld(bare, "--recover"))
    assert bare.stored() == before
    bare.start_daemon()


def test_a_state_directory_with_nothing_in_it_is_not_rebuilt() -> None:
    with Topology(start_daemon=False, program=BARE) as host:
        assert "no such directory" in refusal(osctld(host, "--recover"))
        host.state_dir.mkdir()
        assert "nothing to rebuild a store from" in refusal(osctld(host, "--recover"))
        assert "no store yet" in osctld(host, "--check").stdout
        assert [each.name for each in host.state_dir.iterdir()] == ["osctld.lock"]
        host.start_daemon()


@pytest.mark.parametrize("words", [("--check", "--recover"), ("--force",), ("--check", "--force"), ("--recover=x",)])
def test_words_that_do_not_go_together_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = run(str(BIN / "osctld"), "--state-dir", str(tmp_path / "none"), *words, check=False)

    assert (said.status, said.stdout, said.stderr.count("\n")) == (64, "", 1)
    assert not (tmp_path / "none").exists()


# --- schemas -----------------------------------------------------------------------------------------------------


def test_a_newer_store_is_refused_with_the_command_that_goes_back_to_the_copy(bare: Topology) -> None:
    bare.new_container("web", via=VIAS, addresses=("1.2.3.4",))
    before = configured(bare)
    bare.stop_daemon()
    file = bare.state_dir / "osctl.sqlite"
    shutil.copy(file, f"{file}.schema{SCHEMA}")
    bare.start_daemon()
    bare.new_container("later", start=False)
    bare.osctl(*ADD, "web", "eth0", "1.2.3.5")
    bare.stop_daemon()
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")

    command = f"--restore-schema {SCHEMA}"
    said = refusal(osctld(bare))
    assert f"has schema {SCHEMA + 1}, this osctld supports {SCHEMA}" in said
    assert f"; osctld --state-dir {bare.state_dir} {command} goes back to {file}.schema{SCHEMA}" in said
    assert command in osctld(bare, "--check").stdout
    assert "has schema" in refusal(osctld(bare, "--recover", "--force"))

    done = osctld(bare, *command.split())

    assert (done.status, done.stderr) == (0, "")
    assert f"later: not in the copy; its root directory stays at {bare.state_dir}/ct/later" in done.stdout
    assert f"schema {SCHEMA}, containers: 1" in done.stdout
    bare.start_daemon()
    assert configured(bare) == before
    # What the newer one put into a guest that runs on is cleared away.
    inside = {each["local"] for link in bare.guest_ip_json("web", "addr", "show", "eth0") for each in link["addr_info"]}
    assert "1.2.3.4" in inside
    assert "1.2.3.5" not in inside
    bare.stop_daemon()
    assert "nothing is newer than the copy" in refusal(osctld(bare, *command.split()))
    assert "there is no copy of schema 1" in refusal(osctld(bare, "--restore-schema", "1"))
    bare.start_daemon()


def test_a_newer_store_without_a_copy_is_refused_and_left_alone(bare: Topology) -> None:
    bare.stop_daemon()
    file = bare.state_dir / "osctl.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")

    said = refusal(osctld(bare))

    assert said.endswith("there is no copy from before the upgrade, install the newer osctld again")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA}")
    bare.start_daemon()
