"""The daemon's own walls on a whole machine: its unit, its watchdog, its door; and that guests notice none of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from machine.containers import ADDRESS, answers, new_container, pings
from machine.laboratory.machine import Machine

#: Lines of /proc/PID/status that a process inherits or is given.
FACTS = (
    *("Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    *("Seccomp", "Seccomp_filters", "SigBlk", "SigIgn", "CoreDumping", "THP_enabled", "Cpus_allowed"),
)

#: Where nothing but reading is allowed to the daemon.
HOMES = "/home"
#: A file's capability to send raw packets, permitted and effective (struct vfs_cap_data, linux/capability.h).
NET_RAW = "0100000200200000000000000000000000000000"
#: Where settings of the unit are changed.
DROP_INS = "/etc/systemd/system/osctld.service.d"

#: What an lxc-start by hand makes of the same configuration: a container without the daemon, its unit and its hooks.
BY_HAND = r"""
set -e
mkdir -p /var/lib/lxc/plain
cp -a /var/lib/osctl/ct/web/rootfs /var/lib/lxc/plain/rootfs
sed -e '/^lxc.cgroup.dir/d; /^lxc.hook/d; /^lxc.rootfs.path/d; /^lxc.uts.name/d' \
    /run/osctl/lxc/web/config >/var/lib/lxc/plain/config
cat >>/var/lib/lxc/plain/config <<CONFIG
lxc.uts.name = plain
lxc.rootfs.path = dir:/var/lib/lxc/plain/rootfs
lxc.rootfs.options = idmap=container
lxc.net.0.type = empty
CONFIG
systemd-run --quiet --unit plain -p Type=forking -p KillMode=process -p IgnoreSIGPIPE=no lxc-start -n plain --daemon
lxc-wait -n plain -s RUNNING -t 60
"""


def facts(machine: Machine, pid: int) -> dict[str, Any]:
    """All that a guest's first process may have from who started it."""
    status = dict(
        line.split(":\t", 1) for line in machine.run(f"cat /proc/{pid}/status").output.splitlines() if ":\t" in line
    )
    return {
        **{each: status.get(each) for each in FACTS},
        "limits": machine.run(f"cat /proc/{pid}/limits").output,
        "score": machine.run(f"cat /proc/{pid}/oom_score_adj").output,
        "timer slack": machine.run(f"cat /proc/{pid}/timerslack_ns").output,
        "core filter": machine.run(f"cat /proc/{pid}/coredump_filter").output,
        "schedule": machine.run(f"ps -o cls=,ni=,rtprio= -p {pid}").output,
        "environment": machine.run(f"tr '\\0' '\\n' </proc/{pid}/environ | sort").output,
        "mounts": propagation(machine.run(f"cut -d' ' -f5,6- /proc/{pid}/mountinfo").output),
        "descriptors": machine.run(f"ls /proc/{pid}/fd | wc -l").output,
    }


def propagation(mounts: str) -> list[str]:
    """Where things are mounted, how, and whether mounts would go on to others; without numbers."""
    told = (re.sub(r"(shared|master|propagate_from):\d+", r"\1:N", line) for line in mounts.splitlines())
    return sorted(re.sub(r"(size|nr_inodes)=\w+", r"\1=N", line) for line in told)


def init(machine: Machine, container: str = "web") -> int:
    return int(json.loads(machine.run(f"osctl -j ct show {container}").output)["init_pid"])


def test_a_guest_has_what_lxc_start_by_hand_gives_it_before_and_after_a_restart(machine: Machine) -> None:
    new_container(machine)
    machine.run(BY_HAND, 120)
    by_hand = facts(machine, int(machine.run("lxc-info -n plain -pH").output))
    ours = facts(machine, init(machine))

    # Ours is mounted by the daemon: device nodes are dead, and no mount of the host's gets in.
    (root,) = (each for each in ours["mounts"] if each.startswith("/ "))
    (root_by_hand,) = (each for each in by_hand["mounts"] if each.startswith("/ "))
    assert root.replace("rw,nodev,", "rw,") == re.sub(" master:N", "", root_by_hand)
    by_hand["mounts"] = [root if each is root_by_hand else each for each in by_hand["mounts"]]
    assert ours["CapBnd"] == by_hand["CapBnd"]
    assert ours["NoNewPrivs"] == by_hand["NoNewPrivs"] == "0"
    assert {key: ours[key] for key in ours if key != "environment"} == {
        key: by_hand[key] for key in by_hand if key != "environment"
    }
    assert not [line for line in ours["environment"].splitlines() if re.match("NOTIFY|WATCHDOG|LISTEN|INVOC", line)]

    machine.run("systemctl restart osctld")
    assert facts(machine, init(machine)) == ours
    machine.run("osctl ct restart web")
    assert facts(machine, init(machine)) == ours
    inside = machine.run("osctl ct exec web sh -c 'ulimit -Sn; cat /proc/self/oom_score_adj'").output
    assert inside == "1024\n0\n"
    assert machine.run("cat /proc/$(systemctl show -P MainPID osctld)/oom_score_adj").output == "-900\n"


def test_the_hardened_daemon_does_all_its_work(machine: Machine) -> None:
    """Device nodes of archives, files of any owner, capabilities of files, what a guest sends, what the host mounts."""
    machine.run(
        """
        set -e
        mkdir -p /tmp/root && cd /tmp/root && mkdir -p dev bin sbin etc proc sys root tmp run
        cp /bin/busybox bin/busybox && for each in sh ip ping cat; do ln -s busybox bin/$each; done
        ln -s ../bin/busybox sbin/init && mknod dev/loop9 b 7 9 && mknod dev/null c 1 3 && chown 5:6 etc
        """
        f'python3 -c \'import os; os.setxattr("bin/busybox", "security.capability", bytes.fromhex("{NET_RAW}"))\'\n'
        f"tar --xattrs --xattrs-include=security.capability -cf {HOMES}/root.tar ."
    )
    new_container(machine, archive=f"{HOMES}/root.tar")

    answers(machine)
    root = "/var/lib/osctl/ct/web/rootfs"
    assert machine.run(f"stat -c '%F %t %T' {root}/dev/loop9").output == "block special file 7 9\n"
    assert machine.run(f"stat -c '%u %g' {root}/etc").output == "5 6\n"
    kept = f'python3 -c \'import os; print(os.getxattr("{root}/bin/busybox", "security.capability").hex())\''
    assert machine.run(kept).output == f"{NET_RAW}\n"
    # The guest speaks IP, though its daemon may not.
    assert "1 packets received" in machine.run("osctl ct exec web ping -c 1 -w 5 10.100.0.1").output
    # What the host mounts later is there for the daemon, and what it takes away is gone for it.
    machine.run(f"mkdir -p /mnt/more && mount -t tmpfs none /mnt/more && mount --bind /mnt/more {root}/tmp")
    machine.run("touch /mnt/more/seen; osctl ct restart web")
    pid = machine.run("systemctl show -P MainPID osctld").output.strip()
    assert machine.run(f"ls /proc/{pid}/root{root}/tmp").output == "seen\n"
    machine.run(f"umount {root}/tmp && umount /mnt/more")
    assert machine.run(f"ls /proc/{pid}/root{root}/tmp").output == ""
    machine.run("osctl ct del -f web && test ! -e /var/lib/osctl/ct/web")
    assert machine.run("journalctl -u osctld -p warning --no-pager -q").output == ""
    assert machine.run("journalctl -k --no-pager -q | grep -c DENIED || true").output == "0\n"


def test_a_daemon_that_hangs_is_started_again_and_no_ping_is_lost(machine: Machine) -> None:
    machine.put(f"{DROP_INS}/quick.conf", "[Service]\nWatchdogSec=20s\nTimeoutAbortSec=2s\n")
    machine.run("systemctl daemon-reload && systemctl restart osctld")
    new_container(machine)
    going = pings(machine)
    before = machine.run("systemctl show -P MainPID osctld").output.strip()
    machine.run("sleep 25; osctl ping")  # one that does not hang is left alone
    assert machine.run("systemctl show -P MainPID osctld").output.strip() == before

    machine.run(f"kill -STOP {before}")

    machine.wait_until(
        f'test "$(systemctl show -P MainPID osctld)" -ne {before} && osctl ping', "another daemon answers", 180
    )
    assert "watchdog" in machine.run("journalctl -u osctld --no-pager -q").output.lower()
    answered, lost = going.end()
    assert answered > 20
    assert lost == []
    assert machine.run("osctl ct show -H -o state web").output.strip() == "running"


def test_the_unit_is_as_exposed_as_it_says(machine: Machine, record_property: Callable[[str, object], None]) -> None:
    told = machine.run("systemd-analyze security --no-pager osctld.service", check=False).output

    exposure = re.search(r"Overall exposure level for osctld.service: ([\d.]+)", told)
    assert exposure is not None, told
    record_property("told", f"{machine.release.name}: osctld.service is exposed {exposure[1]} of 10")
    assert float(exposure[1]) <= 8.2, told


def test_two_groups_come_in_and_nobody_else(machine: Machine) -> None:
    machine.run(
        """
        set -e
        groupadd -f osctl-all && groupadd -f osctl-view
        useradd -M -G osctl-all all && useradd -M -G osctl-view view && useradd -M other
        mkdir -p /etc/osctl
        printf '[socket]\\ngroup = "osctl-all"\\nread_only_group = "osctl-view"\\n' >>/etc/osctl/osctld.toml
        systemctl restart osctld
        """
    )
    new_container(machine)

    def by(user: str, command: str) -> tuple[int, str]:
        done = machine.run(f"runuser -u {user} -- {command} 2>&1", check=False)
        return done.status, done.output

    assert by("all", "osctl ct netif ip add web eth0 1.2.3.77") == (0, "")
    status, listed = by("view", "osctl ct ls -H -o id")
    assert (status, listed.split()) == (0, ["web"])
    refused = "error: permission denied: 'ct stop' is not available to members of the read-only group\n"
    assert by("view", "osctl ct stop web") == (77, refused)
    stranger = "error: cannot connect to osctld at /run/osctl/osctld.sock: Permission denied\n"
    assert by("other", "osctl ct ls") == (77, stranger)
    answers(machine, ADDRESS)


def test_a_start_that_fails_is_told_in_one_line_and_leaves_containers_alone(machine: Machine) -> None:
    address = new_container(machine)
    machine.run("mkdir -p /etc/osctl; touch /etc/osctl/osctld.toml; cp /etc/osctl/osctld.toml /root/kept")

    def told() -> str:
        machine.run("systemctl reset-failed osctld; systemctl restart osctld", check=False)
        return machine.run("journalctl -u osctld --no-pager -q -o cat -n 40 | grep error: | tail -1").output

    machine.run("printf '[host]\\nuplink = 1\\n' >/etc/osctl/osctld.toml")
    assert told() == "error: /etc/osctl/osctld.toml:2: unknown setting 'host.uplink'\n"
    machine.run("cp /root/kept /etc/osctl/osctld.toml")
    machine.put(f"{DROP_INS}/less.conf", "[Service]\nCapabilityBoundingSet=~CAP_NET_ADMIN\n")
    machine.run("systemctl daemon-reload")
    assert told() == "error: osctld lacks CAP_NET_ADMIN, required for links, routes and the packet filter\n"
    machine.run(f"rm {DROP_INS}/less.conf; systemctl daemon-reload")
    machine.run("mv /usr/bin/lxc-start /usr/bin/lxc-start.away")
    assert told() == "error: program 'lxc-start' is missing; install lxc\n"
    machine.run("mv /usr/bin/lxc-start.away /usr/bin/lxc-start")

    answers(machine, address)
    machine.run("systemctl reset-failed osctld; systemctl restart osctld")
    assert machine.run("osctl ct show -H -o state web").output.strip() == "running"
