"""Bridges of the host H, as an administrator makes them, and who else is on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from whole.host import Topology


def make_bridge(host: Topology, name: str, *addresses: str, mtu: int | None = None, mac: str | None = None) -> None:
    """A bridge that is up, without a link-local address. Its MAC address is a fixed one if `mac` says which."""
    properties = [*(["address", mac] if mac else []), *(["mtu", str(mtu)] if mtu else [])]
    host.ip(host.H, "link", "add", name, *properties, "type", "bridge")
    host.ip(host.H, "link", "set", name, "addrgenmode", "none")
    host.ip(host.H, "link", "set", name, "up")
    for each in addresses:
        host.ip(host.H, "addr", "add", each, "dev", name, *(["nodad"] if ":" in each else []))


def plug_router_in(host: Topology, bridge: str, *addresses: str, link: str = "lan0") -> None:
    """Make the router R a neighbour: its link `link` is the other end of a port of the bridge."""
    port = f"to-{link}"
    host.ip(host.H, "link", "add", port, "type", "veth", "peer", "name", link, "netns", host.R)
    host.ip(host.H, "link", "set", port, "master", bridge, "up")
    host.ip(host.R, "link", "set", link, "up")
    for each in addresses:
        host.ip(host.R, "addr", "add", each, "dev", link, *(["nodad"] if ":" in each else []))


def delete_links(host: Topology, namespace: str, names: Sequence[str]) -> None:
    for name in names:
        host.ip(namespace, "link", "del", name, check=False)


def link(host: Topology, name: str) -> dict[str, Any]:
    """What H says of a link; empty when there is none."""
    found = [each for each in host.ip_json(host.H, "-details", "link", "show") if each["ifname"] == name]
    return found[0] if found else {}


def master_of(host: Topology, name: str) -> str | None:
    return link(host, name).get("master")


def ports_of(host: Topology, bridge: str) -> Iterator[str]:
    return (each["ifname"] for each in host.ip_json(host.H, "link", "show", "master", bridge))


def link_local_of(host: Topology, container: str, name: str) -> str:
    """The link-local address that the kernel of a container gave its link; empty as long as there is none."""
    for each in host.guest_ip_json(container, "-6", "addr", "show", "dev", name, "scope", "link"):
        for address in each["addr_info"]:
            if address and not address.get("tentative"):
                return str(address["local"])
    return ""


def neighbours_of(host: Topology, container: str, name: str) -> set[str]:
    """Link-local addresses of those who answer a ping to all nodes of a container's link."""
    argv = ("ping", "-6", "-n", "-c", "3", "-i", "0.2", "-w", "3", "-I", name, "ff02::1")
    answers = host.in_guest_network(container, *argv, check=False).stdout
    return set(re.findall(r"bytes from (fe80::[0-9a-f:]+)%", answers))


def inside(host: Topology, container: str, name: str) -> dict[str, Any]:
    """What a container's own link is like; empty when there is none."""
    found = [each for each in host.guest_ip_json(container, "link") if each["ifname"] == name]
    return found[0] if found else {}
