"""What `osctl self check` has to know of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from osctld.core.authority.null_routes import Yielded
from osctld.core.authority.rules import OlderHolding
from osctld.core.authority.ways import Astray
from osctld.core.config.confinement import AppArmorFacts
from osctld.core.plan.kernel_state import HostFacts

#: Settings that are asked for beside those of uplinks; paths below /proc/sys.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh3",
    "fs/inotify/max_user_instances",
)


class SysctlLine(msgspec.Struct, frozen=True):
    """A line of a file that sets a kernel setting at boot. `path` is below /proc/sys."""

    file: str
    line: int
    path: str
    value: str


class LegacyForwarding(msgspec.Struct, frozen=True):
    """The chain FORWARD of iptables where it is not kept in nftables.

    `accepted_in` and `accepted_out` are links, or beginnings of names that end in +, from and to which all is accepted.
    """

    policy: str
    accepted_in: tuple[str, ...] = ()
    accepted_out: tuple[str, ...] = ()


class HealthFacts(msgspec.Struct, frozen=True):
    """What was seen on the host.

    `sysctls`: present values by path below /proc/sys, those that are not there left out. `sysctl_lines`: in the order
    in which they are applied at boot. `ruleset`: of nftables. `files`: those of ours, and of others' configuration,
    that are there. `settings_of_networkd`: its [Network] section. `legacy`: by IP version.
    """

    host: HostFacts
    kernel: tuple[int, int]
    link_group: int
    containers: int = 0
    interfaces: int = 0
    has_container_with_several: bool = False
    #: IP versions of which a container may send from networks that are not routed to it.
    permitted_versions: frozenset[int] = frozenset()
    manages_forwarding: bool = True
    sysctls: Mapping[str, str] = {}
    sysctl_lines: tuple[SysctlLine, ...] = ()
    ruleset: tuple[Mapping[str, Any], ...] = ()
    legacy: Mapping[int, LegacyForwarding] = {}
    missing_programs: tuple[str, ...] = ()
    runs_networkd: bool = False
    settings_of_networkd: Mapping[str, str] = {}
    runs_network_manager: bool = False
    files: frozenset[str] = frozenset()
    older_holdings: tuple[OlderHolding, ...] = ()
    apparmor: AppArmorFacts = AppArmorFacts(is_on=False)
    requires_apparmor: bool = True
    #: What is not made of containers' routes because of others.
    yielded: tuple[tuple[str, Yielded], ...] = ()
    #: Why not all is announced as it should be.
    announcing: tuple[str, ...] = ()
    #: Packets for containers that do not go out by their links.
    astray: tuple[Astray, ...] = ()
    #: IP versions of which no routing rule looks into the main table for all packets.
    without_main: tuple[int, ...] = ()
    #: Links on which the host is in an IPv4 network, or to which it has an IPv4 route.
    networked: frozenset[str] = frozenset()
    #: Whether the settings name the uplinks.
    names_uplinks: bool = False
    #: Whether the original's client has listed containers since the daemon was started.
    serves_original: bool = False
