"""The router R configured by the programs that operators have there, each fed with what osctld prints for it.

    with RUNNING["bird"](host, directory) as router:
        router.apply(text)         # all that was printed
        router.apply_change(text)  # what --since printed

Bird and FRRouting run as installed packages; netplan and ifupdown from where `./dev test` has unpacked them. None of
them sees more than R and a directory of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from whole.host import ROUTER_4, ROUTER_6, Topology, run, wait_until

ROOT = Path(__file__).parents[2]
#: Where `./dev test` unpacks what must not be installed.
UNPACKED = ROOT / ".cache/programs"

LINK = "down0"
#: The protocols of routes that come from the kernel itself.
_OWN_OF_KERNEL = ("kernel", "ra")

_numbers = itertools.count(1)


def program(*paths: str) -> Path:
    """The first of these files that is there, unpacked or installed. Raises AssertionError when none is."""
    found = [root / each for root in (UNPACKED, Path("/")) for each in paths if (root / each).is_file()]
    assert found, f"no {paths[0]}: ./dev test installs or unpacks what tests need"
    return found[0]


class Router:
    """R without routes to H's containers. A context manager: on leaving, its program has ended."""

    #: For `--format`.
    format: ClassVar[str]
    #: What stands in its texts, and what its own check finds wrong in the place of that.
    mistake: ClassVar[tuple[str, str]] = ("10.5.5.0", "10.5.5.x")

    def __init__(self, host: Topology, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for family in ("-4", "-6"):
            self.host.ip(self.host.R, family, "route", "flush", "proto", "boot")
        with contextlib.ExitStack() as closing:
            closing.callback(self._closing.close)
            self.begin()
            closing.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.close()

    def begin(self) -> None:
        """Start the program, for those that are daemons."""

    def apply(self, text: str) -> None:
        raise NotImplementedError

    def apply_change(self, text: str) -> None:
        """What was printed with --since: of a file, again all of it."""
        self.apply(text)

    def accepts(self, text: str) -> bool:
        """Whether the program's own check passes the text."""
        raise NotImplementedError

    # --- what R's kernel has --------------------------------------------------------------------------------------

    def routes(self) -> dict[str, str]:
        """Next hops by network, as iproute2 prints them."""
        found = {}
        for family in ("-4", "-6"):
            for each in self.host.ip_json(self.host.R, family, "route", "show"):
                if each.get("protocol") not in _OWN_OF_KERNEL:
                    found[str(each["dst"])] = str(each.get("gateway") or each["via"]["host"])
        return found

    def wait_for(self, routes: Mapping[str, str]) -> None:
        wait_until(lambda: self.routes() == routes, f"R has the routes {routes} and not {self.routes()}", seconds=20)

    # --- processes ------------------------------------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True) -> Any:
        """Run a program on R."""
        return run("nsenter", f"--net=/run/netns/{self.host.R}", *argv, check=check)

    def daemon(self, script: str) -> subprocess.Popen[bytes]:
        """Start a shell script on R that ends in `exec`, with mounts of its own; it ends with this router."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.host.R}", "unshare", "--mount", "sh", "-e", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=self._log(),
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        self._closing.callback(_end, process)
        return process

    def _log(self) -> Any:
        return self._closing.enter_context((self.directory / f"log{next(_numbers)}").open("wb"))

    def logs(self) -> str:
        return "".join(each.read_text(errors="replace") for each in sorted(self.directory.glob("log*")))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class IpBatch(Router):
    format = "ip"

    def apply(self, text: str) -> None:
        file = self.directory / "routes"
        file.write_text(text)
        self.run("ip", "-batch", str(file))

    def accepts(self, text: str) -> bool:
        """There is no check but to apply them: in a namespace where everything is on the link."""
        file = self.directory / "routes"
        file.write_text(text)
        script = (
            f"ip link add {LINK} type veth && ip link set {LINK} up && ip addr add {ROUTER_4}/24 dev {LINK}"
            f" && ip addr add {ROUTER_6}/64 dev {LINK} nodad && ip -batch {file}"
        )
        return run("unshare", "--net", "sh", "-c", script, check=False).status == 0


class Bird(Router):
    format = "bird"

    @property
    def _include(self) -> Path:
        return self.directory / "routes.conf"

    def begin(self) -> None:
        self._include.write_text("")
        self._write_configuration(self.directory / "bird.conf", self._include)
        self.daemon(f"exec {self._words('bird')} -f -c {self.directory}/bird.conf -P {self.directory}/pid")
        wait_until(lambda: "ready" in self._control("show", "status"), "BIRD answers")

    def _write_configuration(self, file: Path, include: Path) -> None:
        file.write_text(
            "log stderr all; router id 192.0.2.2; protocol device {}\n"
            "protocol kernel { ipv4 { export all; }; }\n"
            "protocol kernel { ipv6 { export all; }; }\n"
            f'include "{include}";\n'
        )

    def _words(self, name: str) -> str:
        return f"{program(f'usr/sbin/{name}')} -s {self.directory}/control"

    def _control(self, *words: str) -> str:
        return str(self.run(*self._words("birdc").split(), *words, check=False).stdout)

    def apply(self, text: str) -> None:
        self._include.write_text(text)
        said = self._control("configure")
        assert "Reconfigured" in said or "Reconfiguration in progress" in said, said

    def accepts(self, text: str) -> bool:
        include, file = self.directory / "checked", self.directory / "checked.conf"
        include.write_text(text)
        self._write_configuration(file, include)
        return bool(self.run(str(program("usr/sbin/bird")), "-p", "-c", str(file), check=False).status == 0)


class Frr(Router):
    """FRRouting's zebra and staticd. They and vtysh see a /etc/frr and a /run/frr of their own."""

    format = "frr"

    def begin(self) -> None:
        places = "mount -t tmpfs none /etc/frr; mount -t tmpfs none /run/frr; chown frr:frr /run/frr /etc/frr"
        vtysh = "echo 'service integrated-vtysh-config' >/etc/frr/vtysh.conf; touch /etc/frr/frr.conf"
        zebra = program("usr/lib/frr/zebra")
        self._zebra = self.daemon(f"{places}; {vtysh}; exec {zebra} -A 127.0.0.1 -P 0")
        wait_until(lambda: self._beside_zebra("test", "-S", "/run/frr/zserv.api").status == 0, "zebra listens")
        # From 9.0 on, mgmtd reads what is for staticd.
        for name in ("mgmtd", "staticd"):
            if name == "staticd" or Path(f"/usr/lib/frr/{name}").exists():
                self._start(name)

    def _start(self, name: str) -> None:
        process = subprocess.Popen(
            [*self._prefix, str(program(f"usr/lib/frr/{name}")), "-A", "127.0.0.1", "-P", "0"],
            stdin=subprocess.DEVNULL,
            stdout=self._log(),
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath},
        )
        self._closing.callback(_end, process)
        wait_until(lambda: name in self._beside_zebra("vtysh", "-c", "show daemons").stdout, f"{name} is there")

    @property
    def _prefix(self) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self._zebra.pid), "--net", "--mount")

    def _beside_zebra(self, *argv: str) -> Any:
        return run(*self._prefix, *argv, check=False)

    def apply(self, text: str) -> None:
        file = self.directory / "routes"
        file.write_text(text)
        done = self._beside_zebra("vtysh", "-f", str(file))
        assert done.status == 0, done

    def accepts(self, text: str) -> bool:
        file = self.directory / "routes"
        file.write_text(text)
        return bool(self._beside_zebra("vtysh", "-C", "-f", str(file)).status == 0)


class Networkd(Router):
    """systemd-networkd without a systemd, on a bus of its own by which networkctl reaches it."""

    format = "networkd"
    network = f"[Match]\nName={LINK}\n[Network]\nAddress={ROUTER_4}/24\nAddress={ROUTER_6}/64\n"

    def begin(self) -> None:
        self._files.mkdir()
        bus = self.daemon(
            "mount -t tmpfs none /run; mount -t tmpfs none /etc/systemd/network;"
            # With a /sys that cannot be written, networkd takes itself to be in a container and waits for no udev.
            " mount -t sysfs -o ro none /sys;"
            " mkdir -p /run/dbus /run/systemd/netif /run/systemd/network;"
            " chown systemd-network:systemd-network /run/systemd/netif;"
            f" mount --bind {self._files} /run/systemd/network;"
            f" exec {program('usr/bin/dbus-daemon')} --system --nofork --nopidfile"
        )
        self._beside = ("nsenter", "--target", str(bus.pid), "--net", "--mount")
        socket = ("test", "-S", "/run/dbus/system_bus_socket")
        wait_until(lambda: run(*self._beside, *socket, check=False).status == 0, "the bus is there")

    @property
    def _files(self) -> Path:
        """What is /run/systemd/network for it."""
        return self.directory / "network"

    def files(self, text: str) -> Mapping[str, str]:
        return {f"10-{LINK}.network": self.network, f"10-{LINK}.network.d/osctl.conf": text}

    def _write(self, text: str) -> None:
        for name, content in self.files(text).items():
            (self._files / name).parent.mkdir(exist_ok=True)
            (self._files / name).write_text(content)

    def apply(self, text: str) -> None:
        self._write(text)
        networkd = program("lib/systemd/systemd-networkd", "usr/lib/systemd/systemd-networkd")
        process = subprocess.Popen(
            [*self._beside, str(networkd)], stdin=subprocess.DEVNULL, stdout=self._log(), stderr=subprocess.STDOUT
        )
        self._closing.callback(_end, process)
        wait_until(lambda: self._networkctl("status").status == 0, "systemd-networkd is on the bus")

    def apply_change(self, text: str) -> None:
        self._write(text)
        done = self._networkctl("reload")
        assert done.status == 0, done

    def _networkctl(self, verb: str) -> Any:
        return run(*self._beside, "networkctl", verb, check=False)

    def accepts(self, text: str) -> bool:
        """It warns of each line that it does not know, and ignores it."""
        self.apply(text)
        wait_until(lambda: f"{LINK}: Configuring with" in self.logs(), "it has read its files")
        is_accepted = "osctl.conf:" not in self.logs()
        self._closing.close()
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        self.begin()
        return is_accepted


class Netplan(Networkd):
    """netplan makes files for networkd of its own."""

    format = "netplan"
    #: The operator's file: the link has a route already.
    yaml = f"""\
network:
  version: 2
  ethernets:
    {LINK}:
      addresses: ["{ROUTER_4}/24", "{ROUTER_6}/64"]
      routes:
        - to: 203.0.113.200/32
          via: 192.0.2.1
"""

    def files(self, text: str) -> Mapping[str, str]:
        root, status = self._generated(text)
        assert status == 0
        return {each.name: each.read_text() for each in (root / "run/systemd/network").iterdir()}

    def _generated(self, text: str) -> tuple[Path, int]:
        root = self.directory / f"netplan{next(_numbers)}"
        (root / "etc/netplan").mkdir(parents=True)
        for name, content in (("50-link.yaml", self.yaml), ("90-osctl.yaml", text)):
            file = root / "etc/netplan" / name
            file.touch(mode=0o600)
            file.write_text(content)
        generate = program("usr/libexec/netplan/generate", "usr/lib/netplan/generate")
        libraries = ":".join(map(str, (*UNPACKED.glob("usr/lib/*-linux-gnu"), *UNPACKED.glob("lib/*-linux-gnu"))))
        done = run("env", f"LD_LIBRARY_PATH={libraries}", str(generate), "--root-dir", str(root), check=False)
        return root, done.status

    def routes(self) -> dict[str, str]:
        found = super().routes()
        found.pop("203.0.113.200", None)
        return found

    def accepts(self, text: str) -> bool:
        return self._generated(text)[1] == 0


class Ifupdown(Router):
    format = "ifupdown"
    #: It runs no command to check it.
    mistake = (" manual", " by-hand")
    interfaces = f"""\
iface {LINK} inet static
    address {ROUTER_4}/24

iface {LINK} inet6 static
    address {ROUTER_6}/64
    dad-attempts 0

"""

    def begin(self) -> None:
        (self.directory / "state").mkdir()

    @property
    def _file(self) -> Path:
        return self.directory / "interfaces"

    def apply(self, text: str) -> None:
        if self._file.exists():
            self._interfaces("ifdown")
        else:
            self.run("ip", "addr", "flush", "dev", LINK, "scope", "global")
        self._file.write_text(self.interfaces + text)
        self._interfaces("ifup")

    def _interfaces(self, verb: str, *options: str, check: bool = True) -> int:
        # No scripts of the machine's.
        words = (f"--state-dir={self.directory}/state", "--no-scripts", *options, "--interfaces", str(self._file))
        return int(self.run(str(program(f"sbin/{verb}", f"usr/sbin/{verb}")), *words, LINK, check=check).status)

    def accepts(self, text: str) -> bool:
        self._file.write_text(self.interfaces + text)
        return self._interfaces("ifup", "--no-act", check=False) == 0


_PROGRAMS: tuple[type[Router], ...] = (IpBatch, Bird, Frr, Networkd, Netplan, Ifupdown)
#: By `--format`.
RUNNING: Mapping[str, type[Router]] = {each.format: each for each in _PROGRAMS}
