"""Interfaces as containers have them, and root directories with a network tool, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.address.via import Via
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import Container, Host
from osctld.core.config.settings import Settings
from osctld.core.root_files import FileChange, FoundFile, FoundFiles
from osctld.guest.plan import GuestFilesPlan, plan_guest_files
from osctld.guest.stack import stacks
from osctld.netif.routed.interface import new_interface
from pure.interface_steps import with_address

HOST_UUID = "3d5d0a8e-6a54-4e4b-9c5c-0d8c4d1f0a11"

#: For each tool: what is found of a guest that has it and nothing else.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "systemd_networkd": {"/usr/lib/systemd/systemd-networkd": "systemd-networkd"},
    "ifupdown": {"/sbin/ifup": "ifup", "/etc/network": "network", "/bin/ip": "ip"},
    "ifupdown2": {"/sbin/ifup": "ifupdown2", "/usr/share/ifupdown2": "ifupdown2", "/etc/network": "network"},
    "ifupdown_ng": {"/sbin/ifup": "ifupdown", "/etc/network": "network"},
    "busybox_ifupdown": {"/sbin/ifup": "busybox", "/etc/network": "network", "/sbin/ip": "busybox"},
    "network_manager": {"/usr/sbin/NetworkManager": "NetworkManager"},
    "cloud_init": {"/etc/cloud": "cloud"},
    "connman": {"/usr/sbin/connmand": "connmand"},
    "netctl": {"/usr/bin/netctl": "netctl"},
    "dhcpcd": {"/usr/sbin/dhcpcd": "dhcpcd", "/etc/dhcpcd.conf": "dhcpcd.conf"},
}
#: Where several tools have a program of the same name, this tells which it is.
OS_RELEASE = {"ifupdown": "ID=debian\n", "ifupdown2": "ID=debian\n", "busybox_ifupdown": "ID=alpine\n"}


def container(interfaces: Mapping[str, tuple[Sequence[str], Sequence[str]]], *, mtu: int | None = None) -> Container:
    """A container with these interfaces: vias and addresses of each."""
    host = Host(uuid=HOST_UUID, settings=Settings()).with_new_container(
        "web", user=None, distribution="debian", version="13"
    )
    made = host.container("web")
    for name, (vias, addresses) in interfaces.items():
        parsed = [Via.make(Network.parse(each)) for each in vias]
        interface = new_interface(host, made, name, vias={each.version: each for each in parsed})
        for address in addresses:
            interface = with_address(interface, InterfaceAddress.parse(address))
        made = made.with_new_interface(msgspec.structs.replace(interface, mtu=mtu))
    return made


def inside(interfaces: Mapping[str, tuple[Sequence[str], Sequence[str]]], *, mtu: int | None = None) -> tuple[
    GuestInterface, ...
]:  # fmt: skip
    return container(interfaces, mtu=mtu).inside(Settings(), default_mtu=1500)


ONE = {"eth0": (["10.60.1.0/30", "fd00:60::/126"], ["1.2.3.4", "1.2.3.5", "2001:db8:1::1"])}
TWO = {**ONE, "eth1": (["10.60.2.0/31", "fd00:61::/127"], ["1.2.3.9"])}


def found(tool: str, files: Mapping[str, str] | None = None, *, locked: Iterable[str] = ()) -> FoundFiles:
    """A guest with one tool and these files, of which some are made unwritable by their owner."""
    there = dict(files or {})
    if tool == "dhcpcd":
        there.setdefault("/etc/dhcpcd.conf", "")
    return FoundFiles(
        files={path: FoundFile(text, 0o444 if path in locked else 0o644) for path, text in there.items()},
        programs=PROGRAMS[tool],
        os_release=OS_RELEASE.get(tool, ""),
    )


def applied(there: FoundFiles, changes: Iterable[FileChange]) -> FoundFiles:
    """What is found after these changes."""
    files = dict(there.files)
    for each in changes:
        if each.after is None:
            del files[each.path]
        else:
            files[each.path] = FoundFile(each.after, each.mode)
    return msgspec.structs.replace(there, files=files)


def texts(there: FoundFiles) -> dict[str, str | None]:
    return {path: each.text for path, each in there.files.items()}


def planned(interfaces: Sequence[GuestInterface], there: FoundFiles) -> GuestFilesPlan:
    plan = plan_guest_files(interfaces, there)
    for stack in stacks().values():
        list(stack.patterns(there))
    return plan
