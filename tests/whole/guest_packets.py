"""Packets that a container puts on its own link."""

from __future__ import annotations

import json

from whole import packets
from whole.host import Topology, run


def link_of(host: Topology, container: str, device: str) -> packets.Link:
    inside = json.loads(
        run("nsenter", f"--net=/proc/{host.init_pid(container)}/ns/net", "ip", "-j", "link", "show", device).stdout
    )
    (outside,) = host.ip_json(host.H, "link", "show", host.veth(container, device))
    return packets.Link(own_mac=inside[0]["address"], host_mac=outside["address"])


def send(host: Topology, container: str, device: str, *sent: bytes) -> None:
    """Put IP packets on a container's link, to the host's MAC."""
    link = link_of(host, container, device)
    packets.send_frames(host.init_pid(container), device, [link.frame(each) for each in sent])
