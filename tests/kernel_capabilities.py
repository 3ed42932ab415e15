"""What some kernels lack, and how to find out. A test names what it needs: `@pytest.mark.requires_kernel("veth")`.

Each probe is a shell script that succeeds in a fresh network namespace of a kernel that has it.
"""

from __future__ import annotations

import functools
import subprocess

PROBES = {
    "veth": "ip link add probe0 type veth peer name probe1",
    "bridge": "ip link add probe0 type bridge",
    "dummy": "ip link add probe0 type dummy",
    "vlan": "ip link add probe0 type veth peer name probe1 && ip link add link probe0 name probe0.5 type vlan id 5",
    "ifb": "ip link add probe0 type ifb",
    "tun": "ip tuntap add dev probe0 mode tun",
    "nftables": "nft add table inet probe",
    "nftables fib": (
        "nft 'add table inet probe; add chain inet probe c { type filter hook prerouting priority -350; };"
        " add rule inet probe c fib saddr . iif oif missing drop'"
    ),
    "live rename": (
        "ip link add probe0 type veth peer name probe1 && ip link set probe0 up && ip link set probe0 name probe2"
    ),
    "loop device": "test -c /dev/loop-control && grep -qw ext4 /proc/filesystems",
    "idmapped mounts": (
        # mount_setattr(2) of nothing: EINVAL where the call exists (5.12 and later), ENOSYS where it does not.
        "python3 -c 'import ctypes; l = ctypes.CDLL(None, use_errno=True); l.syscall(442, -1, 0, 0, 0, 0);"
        " raise SystemExit(ctypes.get_errno() == 38)'"
    ),
}


@functools.cache
def has_kernel_capability(name: str) -> bool:
    """Whether this kernel can. Raises KeyError for a capability that nobody described, and RuntimeError where none can
    be looked for: then nothing is proved, and no test may pass for skipped.
    """
    _demand_namespaces()
    return _succeeds(PROBES[name])


@functools.cache
def _demand_namespaces() -> None:
    if not _succeeds("true"):
        raise RuntimeError("this process may not make user and network namespaces (is it in a chroot?)")


def _succeeds(script: str) -> bool:
    probe = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )
    return probe.returncode == 0
