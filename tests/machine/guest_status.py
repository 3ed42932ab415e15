"""What the kernel holds a guest's first process to: as osctld starts it, and as `lxc-start` does from root's shell.

osctld's unit may be held to less than root is. A guest inherits what it is held to, unless that is seen to: the two
have to be equal.
"""

from __future__ import annotations

from machine.laboratory.machine import Machine

#: Lines of /proc/PID/status (proc(5)): capability sets, seccomp, no-new-privileges.
HELD_TO = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")
HAND = "/run/by-hand"


def status_by_osctld(machine: Machine, container: str) -> dict[str, str]:
    """Of a container that runs: those lines, and the AppArmor label of its first process."""
    return _status(machine, init_pid(machine, container))


def status_by_hand(machine: Machine, container: str) -> dict[str, str]:
    """The same of that container started by `lxc-start` with the same configuration; it is stopped before, and after.

    Only what osctld does itself is given to LXC otherwise: the root is id-mapped by LXC, and the namespaces are new.
    """
    machine.run(f"""set -e
        mkdir -p -m 711 {HAND} {HAND}/{container} {HAND}/rootfs
        cp /run/osctl/lxc/{container}/config {HAND}/{container}/config
        osctl ct stop {container}
        mount --bind /var/lib/osctl/ct/{container}/rootfs {HAND}/rootfs
        systemd-run --quiet --scope lxc-start -P {HAND} -n {container} --logfile {HAND}/log --logpriority INFO \\
            --define lxc.hook.pre-start= --define lxc.hook.post-stop= --define lxc.net.0.type=empty \\
            --define lxc.rootfs.path=dir:{HAND}/rootfs --define lxc.rootfs.options=idmap=container
    """)
    try:
        machine.wait_until(f"lxc-info -P {HAND} -n {container} -sH | grep RUNNING", "it runs")
        pid = machine.run(f"lxc-info -P {HAND} -n {container} -pH").output.strip()
        machine.wait_until(f"! readlink /proc/{pid}/exe | grep lxc-start", "its init runs")
        return _status(machine, pid)
    finally:
        machine.run(f"lxc-stop -P {HAND} -n {container} -k; umount {HAND}/rootfs; rm -rf {HAND}", check=False)


def init_pid(machine: Machine, container: str) -> str:
    """The process id of a running container's first process."""
    return machine.run(f"osctl ct show -H -o init_pid {container}").output.strip()


def _status(machine: Machine, pid: str) -> dict[str, str]:
    lines = machine.run(f"cat /proc/{pid}/status").output.splitlines()
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name in HELD_TO}
    return {**found, "label": machine.run(f"cat /proc/{pid}/attr/current", check=False).output.strip("\0\n")}
