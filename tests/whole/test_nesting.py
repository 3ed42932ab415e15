"""Whether a container may run containers of its own: a property that is kept, told and spoken of by both protocols."""

from __future__ import annotations

import contextlib
import sqlite3

from older_store import SCHEMA_2
from whole.host import Topology
from whole.original_client import OriginalClient


def nesting(host: Topology, name: str) -> bool:
    shown = bool(host.osctl_json("ct", "show", name)["nesting"])
    assert host.osctl("ct", "ls", "-H", "-o", "nesting", name).stdout.strip() == ("true" if shown else "-")
    return shown


def test_nesting_is_off_for_a_new_container_and_is_set_and_unset_running_or_not(bare: Topology) -> None:
    bare.new_container("web", start=False)
    seen = [nesting(bare, "web")]

    for word in ("set", "unset"):
        bare.osctl("ct", word, "nesting", "web")
        seen.append(nesting(bare, "web"))
    bare.osctl("ct", "start", "web")
    bare.osctl("ct", "set", "nesting", "web")
    bare.restart_daemon()
    seen.append(nesting(bare, "web"))

    assert seen == [False, True, False, True]
    assert bare.osctl("history", "-H", "-o", "command").stdout.splitlines()[-1].strip().endswith("ct set nesting web")
    assert bare.refusal("ct", "set", "nesting", "nobody") == "container not found: 'nobody'"
    assert bare.osctl("--dry-run", "ct", "unset", "nesting", "web").stdout.strip() == "# configuration only"
    assert nesting(bare, "web")


def test_the_original_s_client_sets_and_unsets_it_and_is_refused_what_there_is_not(host: Topology) -> None:
    host.new_container("web", start=False)
    with OriginalClient(host.socket) as client:
        assert client.call("ct_set", id="web", pool=None, nesting=True) is None
        assert client.call("ct_show", id="web")["nesting"] is True
        assert client.call("ct_unset", id="web", pool=None, nesting=True) is None
        assert client.call("ct_show", id="web")["nesting"] is False

        assert "'web': hostname is not supported" in client.error("ct_set", id="web", hostname="name", nesting=True)
        assert "'web': attrs is not supported" in client.error("ct_unset", id="web", attrs=["a:b"], nesting=True)
        assert "container not found" in client.error("ct_set", id="nobody", nesting=True)
        assert client.call("ct_show", id="web")["nesting"] is False


def test_containers_of_a_store_from_before_keep_nesting_and_new_ones_have_none(bare: Topology) -> None:
    bare.new_container("old", start=False)
    bare.stop_daemon()
    with contextlib.closing(sqlite3.connect(bare.state_dir / "osctl.sqlite")) as store:
        store.executescript(SCHEMA_2)
    bare.start_daemon()
    bare.new_container("new", start=False)

    assert (nesting(bare, "old"), nesting(bare, "new")) == (True, False)
