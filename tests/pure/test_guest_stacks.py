"""The files of network tools inside guests: expected files for each, and laws that hold for all of them.

Expected files are below tests/golden/guest: TOOL/one and TOOL/two for one interface and two where the tenant wrote
nothing, TOOL/tenant for files of a tenant. `OSCTL_WRITE_GOLDEN=1 ./dev test tests/pure/test_guest_stacks.py` writes
them; what has changed there is then to be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFile, FoundFiles
from osctld.guest.os_release import parse_os_release
from osctld.guest.plan import asked_files, asked_programs, installed_stacks, plan_guest_files
from osctld.guest.stack import stacks
from osctld.guest.tenant_text import header, with_block, without_ours
from pure.guest_roots import ONE, PROGRAMS, TWO, applied, found, inside, planned, texts

GOLDEN = Path(__file__).parent.parent / "golden/guest"
TOOLS = sorted(PROGRAMS)

#: What tenants have written, each file for all tools that read it.
TENANT = {
    "/etc/network/interfaces": """\
# mine
auto lo eth0 eth7
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet static
    address 192.0.2.7/24
    # remembered
    post-up echo one \\
        two
    dns-nameservers 192.0.2.1

iface eth7 inet dhcp

source interfaces.d/*
source-directory /etc/network/more
""",
    "/etc/network/interfaces.d/50-cloud-init": "auto all\niface all inet dhcp\n",
    "/etc/network/interfaces.d/lan": "auto eth7\niface eth7 inet6 auto\n",
    "/etc/network/more/wan": "iface eth0 inet6 auto\n    accept_ra 2\n",
    "/etc/network/never/read": "iface eth0 inet dhcp\n",
    "/etc/connman/main.conf": "[General]\nNetworkInterfaceBlacklist = vmnet, veth\n# mine\nPreferredTechnologies=wifi",
    "/etc/netctl/wan": "Description=mine\nInterface='eth0'\nConnection=ethernet\nIP=dhcp\n",
    "/etc/netctl/lan": "Interface=eth7\nConnection=ethernet\nIP=dhcp\n",
    "/etc/dhcpcd.conf": "nodev\ninterface eth7\nstatic ip_address=192.0.2.7/24\n",
    "/etc/systemd/network/00-osctl-old0.network": header("/etc/systemd/network/00-osctl-old0.network"),
    "/etc/systemd/network/00-osctl-mine.network": "[Match]\nName=*\n",
    "/etc/systemd/network/10-all.network": "[Match]\nName=*\n[Network]\nDHCP=yes\n",
}  # fmt: skip


def golden(name: str) -> dict[str, str]:
    directory = GOLDEN / name
    return {
        f"/{path.relative_to(directory)}": path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def expect(name: str, files: Mapping[str, str | None]) -> None:
    """Compare files, by their paths inside, with the expected ones."""
    if os.environ.get("OSCTL_WRITE_GOLDEN"):
        for path, text in files.items():
            file = GOLDEN / name / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text or "")
    assert golden(name) == files


def test_each_tool_is_found_by_its_file_and_has_expected_files() -> None:
    assert len(stacks()) >= 10
    assert sorted(stacks()) == TOOLS
    assert sorted(each.name for each in GOLDEN.iterdir()) == TOOLS
    for tool in TOOLS:
        assert [each.name for each in installed_stacks(found(tool))] == [tool]
        assert PROGRAMS[tool].keys() <= asked_programs()


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("case", "interfaces"), [("one", inside(ONE)), ("two", inside(TWO, mtu=1400))])
def test_a_tool_gets_the_expected_files(tool: str, case: str, interfaces: tuple[GuestInterface, ...]) -> None:
    there = found(tool)

    plan = planned(interfaces, there)

    assert (plan.tools, plan.left, plan.unknown) == ((tool,), (), "")
    expect(f"{tool}/{case}", {each.path: each.after for each in plan.changes})


@pytest.mark.parametrize("tool", TOOLS)
def test_what_of_the_tenant_conflicts_becomes_a_comment_and_comes_back(tool: str) -> None:
    there = found(tool, TENANT)

    plan = planned(inside(ONE), there)
    after = applied(there, plan.changes)

    expect(f"{tool}/tenant", {each.path: each.after for each in plan.changes if each.after is not None})
    restored = applied(after, planned((), after).changes)
    is_mine = {path: text for path, text in TENANT.items() if not path.endswith("00-osctl-old0.network")}
    assert {path: texts(restored)[path] for path in is_mine} == is_mine
    assert texts(restored).keys() <= TENANT.keys()


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("files", [{}, TENANT], ids=["none", "tenant"])
def test_written_files_need_no_further_change(tool: str, files: Mapping[str, str]) -> None:
    interfaces = inside(TWO)
    there = found(tool, files)

    after = applied(there, planned(interfaces, there).changes)

    assert planned(interfaces, after).changes == ()
    once_more = applied(after, planned(inside(ONE), after).changes)
    assert texts(once_more) == texts(applied(there, planned(inside(ONE), there).changes))
    assert planned((), found(tool)).changes == ()


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_that_its_owner_may_not_write_stays(tool: str) -> None:
    interfaces = inside(ONE)
    written = [each.path for each in planned(interfaces, found(tool, TENANT)).changes]
    kept = [path for path in written if path in TENANT] or written
    there = found(tool, {**dict.fromkeys(written, "# mine\n"), **TENANT}, locked=kept)

    plan = planned(interfaces, there)

    assert {each.path for each in plan.changes}.isdisjoint(kept)
    assert sorted(plan.left) == sorted(f"'{path}': its owner may not write it (chmod u-w)" for path in kept)


def test_before_an_interface_is_there_only_tools_that_leave_it_alone_get_files() -> None:
    of_all = {path: name for each in PROGRAMS.values() for path, name in each.items()}
    there = FoundFiles({"/etc/dhcpcd.conf": FoundFile("")}, of_all, "ID=debian\n")

    plan = plan_guest_files(inside(ONE), there, only_keeps_off=True)

    assert {each.path for each in plan.changes} == {
        "/etc/NetworkManager/conf.d/90-osctl.conf", "/etc/cloud/cloud.cfg.d/99-osctl.cfg", "/etc/connman/main.conf",
        "/etc/dhcpcd.conf",
    }  # fmt: skip


def test_what_is_no_regular_file_is_left_alone_and_named() -> None:
    path = "/etc/network/interfaces"
    there = FoundFiles({path: FoundFile(None, why_left="is a symbolic link")}, PROGRAMS["ifupdown"], "ID=debian\n")

    assert plan_guest_files(inside(ONE), there).left == (f"'{path}': is a symbolic link",)
    assert plan_guest_files((), there).left == ()


def test_a_tool_that_is_no_longer_there_leaves_nothing_of_ours() -> None:
    there = found("ifupdown", TENANT)
    after = applied(there, planned(inside(ONE), there).changes)

    without = FoundFiles(after.files, {}, after.os_release)

    assert texts(applied(without, planned(inside(ONE), without).changes)) == {
        path: text for path, text in TENANT.items() if not path.endswith("00-osctl-old0.network")
    }


def test_two_programs_of_one_name_are_told_apart() -> None:
    def names(programs: Mapping[str, str], os_release: str) -> list[str]:
        return [each.name for each in installed_stacks(FoundFiles({}, programs, os_release))]

    assert names(PROGRAMS["ifupdown"], "ID=linuxmint\nID_LIKE='ubuntu debian'\n") == ["ifupdown"]
    assert names({**PROGRAMS["ifupdown"], **PROGRAMS["ifupdown2"]}, "ID=debian\n") == ["ifupdown2"]
    assert names({**PROGRAMS["ifupdown"], "/sbin/ifup": "busybox"}, "ID=debian\n") == ["ifupdown"]
    assert names({**PROGRAMS["ifupdown"], "/sbin/ifup": "busybox"}, "ID=alpine\n") == ["busybox_ifupdown"]
    assert names({**PROGRAMS["connman"], **PROGRAMS["systemd_networkd"]}, "ID=debian\n") == [
        "connman",
        "systemd_networkd",
    ]


def test_a_distribution_without_a_known_tool_is_named() -> None:
    def unknown(os_release: str) -> str:
        return plan_guest_files(inside(ONE), FoundFiles(os_release=os_release)).unknown

    assert unknown('ID=nixos\nNAME="NixOS"\n') == "nixos"
    assert unknown("ID=debian\n") == unknown("") == unknown('ID=busybox\nNAME="BusyBox"\n') == ""


def test_interfaces_inside_are_as_the_kernel_has_them() -> None:
    (eth0,) = inside(ONE)

    assert [(str(each.address), each.is_source) for each in eth0.addresses] == [
        ("10.60.1.2/30", False), ("1.2.3.4/32", True), ("1.2.3.5/32", True),
        ("fd00:60::2/126", False), ("2001:db8:1::1/128", True),
    ]  # fmt: skip
    assert [(str(each.gateway), str(each.source), each.metric) for each in eth0.defaults] == [
        ("10.60.1.1", "1.2.3.4", 0), ("fd00:60::1", "2001:db8:1::1", 16),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name", "names"),
    [
        ("ID=debian\n", "debian", {"debian"}),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "rocky", {"rocky", "rhel", "centos", "fedora"}),
        ("ID='../../etc/passwd'\n", "", set()),
        ("ID=a\nID=alpine", "alpine", {"alpine"}),
        ("NAME=Debian\n", "", set()),
        (f"ID={'x' * 41}\n", "", set()),
    ],
)
def test_os_release_is_read_as_far_as_it_names_something(text: str, name: str, names: set[str]) -> None:
    release = parse_os_release(text)

    assert release.name == name
    assert release.names == names


# --- whatever a tenant writes -------------------------------------------------------------------------------------

_WORDS = [
    *("auto", "allow-hotplug", "iface", "mapping", "source", "source-directory", "no-auto-down", "eth0", "eth1", "lo"),
    *("all", "/e*", "inet", "inet6", "dhcp", "static", "up ip link", "interfaces.d/*", "/etc/network/more/*", "\\"),
    *("NetworkInterfaceBlacklist=x,y", "[General]", "denyinterfaces", "interface", "#osctl: ", "# BEGIN osctl"),
    *("# BEGIN osctl (new file)", "# END osctl", "ID=debian", "ID_LIKE='", '"', "\0", "\udcff", "\u2028", "\r"),
]
lines = st.lists(st.sampled_from(_WORDS) | st.text(max_size=5), max_size=5).map(" ".join)
tenant_texts = st.lists(lines, max_size=12).map("\n".join)
PATHS = [*TENANT, "/etc/NetworkManager/conf.d/90-osctl.conf", "/etc/cloud/cloud.cfg.d/99-osctl.cfg"]


@given(st.sampled_from(TOOLS), st.dictionaries(st.sampled_from(PATHS), tenant_texts), tenant_texts)
def test_whatever_a_tenant_wrote_is_edited_once(tool: str, files: Mapping[str, str], os_release: str) -> None:
    there = FoundFiles({path: FoundFile(text) for path, text in files.items()}, PROGRAMS[tool], os_release)
    asked_files(there)

    after = applied(there, planned(inside(ONE), there).changes)

    assert planned(inside(ONE), after).changes == ()


@given(tenant_texts)
def test_any_text_is_taken_for_an_os_release(text: str) -> None:
    release = parse_os_release(text)

    assert all(each.isascii() and "/" not in each for each in release.names)


@given(tenant_texts.filter(lambda text: "osctl" not in text), st.booleans())
def test_a_block_goes_without_a_trace(text: str, is_first: bool) -> None:
    assert without_ours(with_block(text, ["x"], path="/etc/x", is_first=is_first)) == text
    assert without_ours(with_block(None, ["x"], path="/etc/x", is_first=is_first)) is None
