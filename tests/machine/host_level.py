"""Settings of a whole host: its layout of cgroups, and what containers change."""

from __future__ import annotations

#: The layout before the present one; systemd 256 and 257 want to be asked twice, later ones do not know it.
OLD_CGROUPS = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"

#: Settings of the host that a container needs otherwise, and the packet filter.
HOST_LEVEL = """
cat /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/default/accept_ra
nft list tables | sort
"""
UNTOUCHED, CHANGED = "0\n1\n", "1\n2\ntable arp osctl\ntable bridge osctl\ntable inet osctl\n"
