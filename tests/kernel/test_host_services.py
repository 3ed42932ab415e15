"""The files that are shipped for the host's own network services, with real ones of them: udev and systemd-networkd.

Both run in namespaces of their own, user namespace included: they hear of no device of this machine, and end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from whole.host import wait_until

PACKAGING = Path(__file__).parents[2] / "packaging"
SYSTEMD = Path("/lib/systemd")

OURS, FOREIGN = "osab12cd34", "os0"

NAMESPACES = "--net --mount --pid --fork --kill-child --mount-proc"

#: What an operator's files ask for all links.
ADDRESS, RP_FILTER = "10.77.0.1/24", "2"

SCRIPT = f"""
set -e
for directory in /run /etc/udev/rules.d /etc/systemd/network /etc/sysctl.d; do mount -t tmpfs none $directory; done
touch /run/null
mount --bind /dev/null /run/null
mount -t tmpfs none /dev # udev gives owners to what it finds there
touch /dev/null
mount --bind /run/null /dev/null
mount -t sysfs none /sys
mkdir -p /run/udev /run/systemd
cp {PACKAGING}/mark.rules /etc/udev/rules.d/70-osctl.rules
cp {PACKAGING}/last.rules /etc/udev/rules.d/zz-osctl.rules
cp {PACKAGING}/osctl.network {PACKAGING}/osctl.link /run/
mv /run/osctl.network /etc/systemd/network/05-osctl.network
mv /run/osctl.link /etc/systemd/network/05-osctl.link
printf '%s\\n' '[Match]' 'Name=*' '[Network]' 'Address={ADDRESS}' IPv6AcceptRA=no LinkLocalAddressing=no \\
    >/etc/systemd/network/90-all.network
printf 'net.ipv4.conf.*.rp_filter={RP_FILTER}\\n' >/etc/sysctl.d/90-all.conf

wait_until() {{
    for _ in $(seq 200); do ! eval "$1" || return 0; sleep 0.1; done
    echo "still not: $1" >&2
    exit 1
}}
state_of() {{ cat /run/systemd/netif/links/$(cat /sys/class/net/$1/ifindex) 2>&1; }}

{SYSTEMD}/systemd-udevd >/run/udev.log 2>&1 &
wait_until '[ -e /run/udev/control ]'
{SYSTEMD}/systemd-networkd >/run/networkd.log 2>&1 &
wait_until '[ -e /run/systemd/netif/links/1 ]'

ip link add {OURS} group 111 type veth peer name peer0
ip link add {FOREIGN} type veth peer name peer1
for link in {OURS} peer0 {FOREIGN} peer1; do ip link set $link up; done
wait_until 'state_of {FOREIGN} | grep -q ADMIN_STATE=configured'
wait_until 'state_of {OURS} | grep -Eq "ADMIN_STATE=(unmanaged|configured)"'
wait_until 'grep -q {RP_FILTER} /proc/sys/net/ipv4/conf/{FOREIGN}/rp_filter'
udevadm settle --timeout 20

for link in {OURS} {FOREIGN}; do
    echo "$link rp_filter $(cat /proc/sys/net/ipv4/conf/$link/rp_filter)"
    echo "$link addresses" $(ip -4 -brief address show dev $link | tr -s ' ' | cut -d ' ' -f 3-)
    echo "$link state $(state_of $link | sed -n 's/ADMIN_STATE=//p')"
    echo "$link NM_UNMANAGED $(udevadm info /sys/class/net/$link | sed -n 's/E: NM_UNMANAGED=//p')"
done
sed 's/^/udev: /' /run/udev.log
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: networkd has a user of its own")
@pytest.mark.requires_kernel("veth")
def test_udev_and_networkd_leave_our_links_alone_and_no_others() -> None:
    for program in (SYSTEMD / "systemd-udevd", SYSTEMD / "systemd-networkd"):
        assert shutil.which(program), f"{program} is not installed"
    process = subprocess.Popen(
        ["unshare", "--user", "sh", "-c", f"read begin; exec unshare {NAMESPACES} sh -s"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    namespace = Path("/proc/self/ns/user").readlink()
    wait_until(lambda: Path(f"/proc/{process.pid}/ns/user").readlink() != namespace, "a user namespace")
    for ids in ("uid_map", "gid_map"):  # more than root: networkd runs as a user of its own
        Path(f"/proc/{process.pid}/{ids}").write_text("0 0 65536\n")
    try:
        said, complained = process.communicate(f"begin\n{SCRIPT}", timeout=50)
    finally:
        process.kill()

    assert process.returncode == 0, said + complained
    told = {tuple(line.split()[:2]): line.split()[2:] for line in said.splitlines() if line.startswith("os")}
    assert told == {
        (OURS, "rp_filter"): ["0"],
        (OURS, "addresses"): [],
        (OURS, "state"): ["unmanaged"],
        (OURS, "NM_UNMANAGED"): ["1"],
        (FOREIGN, "rp_filter"): [RP_FILTER],
        (FOREIGN, "addresses"): [ADDRESS],
        (FOREIGN, "state"): ["configured"],
        (FOREIGN, "NM_UNMANAGED"): [],
    }
    of_udev = [line for line in said.splitlines() if line.startswith("udev:")]
    assert not [line for line in of_udev if "osctl" in line or OURS in line]
