"""What holds guests on a whole machine: AppArmor in its kernel, directories mounted as a distribution mounts them."""

from __future__ import annotations

import json
import re

import pytest

from machine.containers import is_content
from machine.guest_status import HELD_TO, init_pid, status_by_hand, status_by_osctld
from machine.laboratory.machine import Machine, Machines

DEBIAN = "/opt/guests/debian.tar.zst"


def new_debian(machine: Machine, name: str) -> None:
    machine.run(f"osctl ct new --from-archive {DEBIAN} --distribution debian {name}", 300)


def new_busybox(machine: Machine, name: str) -> None:
    machine.run(f"osctl ct new --distribution busybox {name}")


def label(machine: Machine, container: str) -> str:
    return machine.run(f"cat /proc/{init_pid(machine, container)}/attr/current").output.strip("\0\n")


def booted(machine: Machine, container: str) -> str:
    """In what state a systemd guest is when it has started all that it wants."""
    state = f"osctl ct exec {container} systemctl is-system-running"
    machine.wait_until(f"{state} | grep -E 'running|degraded'", f"{container} has booted", 300)
    return machine.run(state, check=False).output.strip()


def wait_for_another_life(machine: Machine, container: str, pid: str) -> None:
    shown = f"osctl ct show -H -o state,init_pid {container}"
    machine.wait_until(f"{shown} | xargs | grep running | grep -vw {pid}", f"{container} runs anew", 120)


@pytest.mark.time_limit(600)
def test_a_reboot_inside_a_guest_restarts_it_however_the_hosts_directories_are_mounted(machine: Machine) -> None:
    forbidding = "noexec,nosuid,nodev"
    assert "noexec" in machine.run("findmnt -n -o OPTIONS /run").output  # as the release does it
    machine.run(f"mount -t tmpfs -o {forbidding} tmpfs /tmp && mount -t tmpfs -o ro,{forbidding} tmpfs /home")
    machine.run(f"mount --bind /var /var && mount -o remount,bind,{forbidding} /var && systemctl restart osctld")
    new_busybox(machine, "small")
    new_debian(machine, "big")

    for name, reboot in (("small", "reboot"), ("big", "systemctl reboot")):
        machine.run(f"osctl ct start {name}", 120)
        if name == "big":
            booted(machine, name)
        pid = init_pid(machine, name)
        machine.run(f"osctl ct exec {name} {reboot}", check=False)
        wait_for_another_life(machine, name, pid)

    assert booted(machine, "big") == "running"
    assert machine.run("osctl ct ls -H -o id,state,wanted").output.split() == ["big", "running", "true", "small",
                                                                               "running", "true"]  # fmt: skip
    options = machine.run(f"awk '$5 == \"/\" {{print $6}}' /proc/{init_pid(machine, 'small')}/mountinfo").output
    assert set(options.strip().split(",")) & {"noexec", "nosuid", "nodev"} == {"nodev"}


@pytest.mark.time_limit(900)
def test_guests_are_confined_by_our_profiles_and_a_systemd_guest_finds_nothing_wrong_with_that(
    machine: Machine,
) -> None:
    new_debian(machine, "big")
    machine.run("osctl ct start big", 120)
    state = booted(machine, "big")

    assert (state, machine.run("osctl ct exec big systemctl --failed --plain --no-legend").output) == ("running", "")
    assert label(machine, "big") == "lxc-osctl (enforce)"
    assert machine.run("osctl ct exec big cat /proc/self/attr/current").output.strip("\0\n") == "lxc-osctl (enforce)"
    assert "Seccomp:\t2" in machine.run("osctl ct exec big cat /proc/self/status").output
    for forbidden in ("ls /sys/kernel/security/apparmor", "cat /sys/kernel/debug/x", "dmesg", "cat /proc/kcore",
                      "sh -c 'echo 1 >/proc/sysrq-trigger'"):  # fmt: skip
        assert machine.run(f"osctl ct exec big {forbidden}", check=False).status != 0, forbidden
    # A signal within the guest, one from the host, and a debugger's look at a neighbour.
    machine.run("osctl ct exec big sh -c 'sleep 999 & kill $!; wait $!; [ $? = 143 ]'")
    machine.run("osctl ct exec big sh -c 'sleep 999 & ls -l /proc/$!/fd >/dev/null && kill $!'")
    denied = machine.run("journalctl -k --no-pager | grep -i 'apparmor.*denied.*lxc-osctl'", check=False).output
    assert denied == ""
    is_content(machine)

    machine.run("osctl ct exec big systemctl poweroff", check=False)
    machine.wait_until("osctl ct show -H -o state big | grep stopped", "it powers off")


@pytest.mark.time_limit(300)
def test_without_nesting_a_user_namespace_in_a_guest_mounts_no_proc(machine: Machine) -> None:
    new_busybox(machine, "web")
    mount = "mount -t proc proc /mnt"
    machine.run("osctl ct start web", 120)

    refused = machine.run(f"osctl ct exec web unshare -Urmpf {mount}", check=False)
    machine.run("osctl ct stop web && osctl ct set nesting web && osctl ct start web", 120)
    with_nesting = machine.run(f"osctl ct exec web unshare -Urmpf {mount}", check=False)

    assert (refused.status, refused.output) == (1, "mount: permission denied (are you root?)\n")
    assert (with_nesting.status, with_nesting.output) == (0, "")


@pytest.mark.time_limit(600)
def test_no_container_starts_unconfined_unless_the_settings_say_so(machine: Machine) -> None:
    new_busybox(machine, "web")
    unload = "apparmor_parser -R /etc/apparmor.d/lxc-osctl"
    machine.run(unload)

    machine.run("osctl ct start web", 120)  # it is loaded by that
    assert label(machine, "web") == "lxc-osctl (enforce)"
    machine.run(f"osctl ct stop web && {unload} && apt-get -y purge apparmor", 300)

    refused = machine.run("osctl ct start web", check=False)
    assert refused.status != 0
    assert refused.output.splitlines()[-1] == (
        "error: 'web': would not be confined, the AppArmor profile lxc-osctl is not loaded; install"
        " the package apparmor and run: apparmor_parser -r /etc/apparmor.d/lxc-osctl"
    )
    assert machine.run("osctl ct show -H -o state web").output.strip() == "stopped"
    assert machine.run("ls /run/osctl/lxc", check=False).status != 0
    found = machine.run("osctl -j self check", check=False)
    assert found.status == 1
    (finding,) = [each for each in json.loads(found.output) if each["code"] == "not-confined"]
    for command in finding["commands"]:
        machine.run(command, 300)
    is_content(machine)
    machine.run("osctl ct start web && osctl ct stop web", 120)

    machine.run(unload)
    machine.put("/etc/osctl/osctld.toml", '[confinement]\napparmor = "off"\n')
    machine.run("systemctl restart osctld && osctl ct start web", 120)
    assert label(machine, "web") == "unconfined"
    assert "confinement.apparmor is off" in machine.run("osctl self check").output


@pytest.mark.time_limit(900)
def test_with_apparmor_off_in_the_kernel_containers_start_and_reboot_too(machines: Machines) -> None:
    machine = machines.start("installed", kernel_arguments="apparmor=0")
    new_busybox(machine, "web")
    machine.run("osctl ct start web", 120)
    pid = init_pid(machine, "web")

    machine.run("osctl ct exec web reboot", check=False)

    wait_for_another_life(machine, "web", pid)
    is_content(machine)
    assert "Seccomp:\t2" in machine.run("osctl ct exec web cat /proc/self/status").output


@pytest.mark.time_limit(1200)
def test_a_guest_with_nesting_runs_containers_of_its_own_with_profiles_of_its_own(machine: Machine) -> None:
    new_debian(machine, "outer")
    root = "/var/lib/osctl/ct/outer/rootfs"
    machine.run(f"""set -e
        mkdir -p {root}/opt/packages && mount --bind /opt/packages {root}/opt/packages
        trap 'umount {root}/opt/packages' EXIT
        cp /etc/apt/sources.list {root}/etc/apt/ && rm -f {root}/etc/apt/sources.list.d/*
        chroot {root} apt-get -qq update
        printf '#!/bin/sh\\nexit 101\\n' >{root}/usr/sbin/policy-rc.d && chmod 755 {root}/usr/sbin/policy-rc.d
        DEBIAN_FRONTEND=noninteractive chroot {root} apt-get -qq -y install --no-install-recommends \\
            lxc apparmor busybox-static
        rm -f {root}/etc/systemd/system/multi-user.target.wants/lxc*
    """, 600)  # fmt: skip
    inner = "/var/lib/lxc/inner"
    machine.put(f"{root}{inner}/config", (
        "lxc.uts.name = inner\n"
        f"lxc.rootfs.path = dir:{inner}/rootfs\n"
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed\n"
        "lxc.init.cmd = /bin/busybox sleep 999\n"
        "lxc.net.0.type = empty\n"
        "lxc.apparmor.profile = generated\n"
        "lxc.apparmor.allow_nesting = 1\n"
    ))  # fmt: skip
    machine.run(f"cd {root}{inner} && mkdir -p rootfs/bin rootfs/proc rootfs/sys rootfs/dev rootfs/tmp rootfs/etc && "
                "cp /bin/busybox rootfs/bin/ && ln -s busybox rootfs/bin/sh")  # fmt: skip
    start = "osctl ct exec outer lxc-start -n inner -l DEBUG -o /var/log/inner"

    machine.run("osctl ct start outer", 120)
    booted(machine, "outer")
    without = machine.run(start, check=False)
    machine.run("osctl ct stop outer && osctl ct set nesting outer && osctl ct start outer", 300)
    assert booted(machine, "outer") == "running"
    machine.run(start)
    inside = machine.run("osctl ct exec outer lxc-attach -n inner -- /bin/busybox cat /proc/self/attr/current").output

    assert without.status != 0
    assert re.fullmatch(r"lxc-osctl-nesting//&:lxc-osctl-\w+\.outer:unconfined \(.*\)", label(machine, "outer"))
    assert "lxc-inner" in inside
    namespaces = "ls /sys/kernel/security/apparmor/policy/namespaces"
    assert ".outer" in machine.run(namespaces).output
    machine.run("osctl ct stop outer", 180)
    assert machine.run(namespaces).output == ""


@pytest.mark.time_limit(300)
def test_a_guest_is_held_to_the_same_whether_osctld_starts_it_or_lxc_start_by_hand(machine: Machine) -> None:
    new_busybox(machine, "web")
    machine.run("osctl ct start web", 120)

    by_osctld = status_by_osctld(machine, "web")
    by_hand = status_by_hand(machine, "web")

    assert by_osctld == by_hand
    assert {*HELD_TO, "label"} == {*by_osctld}


@pytest.mark.time_limit(300)
def test_an_archive_whose_decompressor_is_missing_is_refused_with_the_package_to_install(machine: Machine) -> None:
    machine.run("dpkg --force-depends --purge zstd", 120)

    refused = machine.run(f"osctl ct new --from-archive {DEBIAN} --distribution debian big", check=False)
    found = machine.run("osctl self check").output
    machine.run("apt-get install --no-install-recommends zstd", 300)

    assert refused.status != 0
    assert refused.output.splitlines()[-1] == (
        "error: the archive is compressed with zstd; program 'zstd' is missing; install zstd"
    )
    assert "apt-get install --no-install-recommends zstd" in found
    new_debian(machine, "big")
