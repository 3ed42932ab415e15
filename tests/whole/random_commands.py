"""Random commands for a host's containers: mostly sensible ones, some that must be refused.

Values are drawn from a small part of the address space, so that they meet, nest and collide.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias, TypeVar

from hypothesis.vendor.pretty import RepresentationPrinter

from whole.told_again import ADDRESS_POOLS, Container, Interface, Step, World

T = TypeVar("T")
Option: TypeAlias = tuple[str, "str | None"]

VIAS_4 = (
    *(f"10.100.0.{n}/30" for n in range(0, 24, 4)),
    *(f"10.100.0.{n}/31" for n in range(24, 34, 2)),
    "10.100.0.0/28", "10.100.1.0/24", "10.100.2.0/29", "169.254.7.0/31", "169.254.9.0/24", "1.2.3.16/28",
    "10.5.5.0/26", "10.100.3.7/30",
)  # fmt: skip
VIAS_6 = (
    *(f"fd00:1::{n:x}/126" for n in range(0, 32, 4)),
    *(f"fd00:1::{n:x}/127" for n in range(32, 40, 2)),
    "fd00:1::/124", "fd00:2::/64", "fd00:3::/120", "2001:db8:2:6::/64", "2001:db8:2::10/124",
)  # fmt: skip
ADDRESSES_4 = tuple(f"1.2.3.{n}" for n in range(1, 20)) + tuple(f"10.5.5.{n}" for n in range(1, 8))
ADDRESSES_6 = tuple(f"2001:db8:2::{n:x}" for n in range(1, 20)) + tuple(f"2001:db8:2:5::{n:x}" for n in range(1, 8))
LENGTHS_4 = ("", "", "", "", "", "", "/32", "/31", "/30", "/28", "/24")
LENGTHS_6 = ("", "", "", "", "", "", "/128", "/127", "/126", "/124", "/64")
NETWORKS_4 = (
    *(f"203.0.113.{n}/28" for n in range(0, 192, 16)),
    *(f"1.2.3.{n}/30" for n in range(0, 24, 4)),
    *(f"1.2.3.{n}/32" for n in range(2, 14)),
    "1.2.3.0/24", "1.2.3.0/28", "1.2.3.8/29", "10.5.5.0/24", "10.5.5.0/29", "10.5.0.0/16", "198.51.100.0/25",
)  # fmt: skip
NETWORKS_6 = (
    *(f"2001:db8:2:{n:x}::/64" for n in range(16, 28)),
    *(f"2001:db8:2::{n:x}/126" for n in range(0, 24, 4)),
    *(f"2001:db8:2::{n:x}/128" for n in range(2, 14)),
    "2001:db8:2::/64", "2001:db8:2::/124", "2001:db8:2:5::/64", "2001:db8:2::/48", "2001:db8:2:10:8::/80",
)  # fmt: skip
#: What makes no sense anywhere, or only nearly.
NONSENSE = (
    "", "nonsense", "1.2.3", "1.2.3.256", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/ 8", "127.0.0.1", "0.0.0.0",
    "0.0.0.0/0", "224.0.0.1", "255.255.255.255", "169.254.1.1", "::", "::/0", "::1", "fe80::5", "ff02::1",
    "::ffff:1.2.3.4", "2001:db8:2::1/129", "2001:db8:2::1%eth0", "10.100.0.0/32", "fd00:1::/128", "0.1.2.3",
)  # fmt: skip
NAMES = ("eth0", "eth1", "eth2")
#: Commands whose interface has to be named also where there is only one.
NAMES_INTERFACE = ("ct netif del", "ct netif new routed", "ct netif ip move", "ct netif standby", "ct netif take")
#: Commands that few changes come of.
FEW_CHANGES = ("ct netif ip reorder", "ct netif standby", "ct netif take")
OTHER_NAMES = ("wan0", "lan0", *NAMES)
MTUS = ("1280", "1400", "9000", "-", "1000", "68", "67", "70000", "many")
MACS = ("02:xx:xx:xx:xx:01", "02:00:00:12:34:56", "xx:xx:xx:xx:xx:xx", "-", "-", "03:xx:xx:xx:xx:01", "02:xx", "MAC")
BAD_NAMES = ("lo", "eth0.1", "eth/0", "a" * 16, "eth 0", "all", "ethä", "")
#: Which change of a plan shall fail: most plans are short.
CHANGES = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 8, 12)


@dataclass(frozen=True)
class Action:
    """A command, and what happens around it.

    do: it is given. dry: with --dry-run. refuse: the kernel refuses the change of that number. die: the daemon is
    killed in place of it. in the way: somebody else has put there what it would add. Without a step: kill daemon,
    restart daemon, by hand (something of ours is broken by hand, then mended by a new start of the daemon), host
    address (the host is given one that nobody holds, or has it taken away); foreign route, foreign rule (one comes that
    is somebody else's, or goes), foreign master (a link of ours is made a port of a bridge).
    """

    kind: str
    step: Step | None = None
    number: int = 0

    def __str__(self) -> str:
        about = "" if self.kind == "do" else f"   # {self.kind} {self.number}"
        return f"osctl {shlex.join(self.step.argv)}{about}" if self.step else f"# {self.kind} {self.number}"

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        """How hypothesis prints it: as somebody would type it."""
        printer.text(str(self))


class Commands:
    def __init__(self, random: Random) -> None:
        self._random = random
        #: The container's number, and of how many.
        self._share = 0, 1

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, values: Sequence[T]) -> T:
        return values[self._random.randrange(len(values))]

    def value(self, values: Sequence[str]) -> str:
        """Mostly one that other containers seldom get: else most commands would be refused as held by them."""
        number, count = self._share
        return self.pick(values[number::count] if self.chance(0.85) else values)

    def next(self, world: World) -> Action:
        """One action that fits, more or less, to what there is."""
        containers = list(world.containers.values())
        container = self.pick(containers)
        self._share = containers.index(container), len(containers)
        name = container.name if not self.chance(0.01) else "nobody"
        draw = self._random.random()
        if draw < 0.003:
            return Action(self.pick(("kill daemon", "restart daemon", "by hand")), None, self._random.randrange(1000))
        if draw < 0.008:
            return Action("host address", None, self._random.randrange(1000))
        if draw < 0.016:
            kind = self.pick(("foreign route",) * 5 + ("foreign rule",) * 2 + ("foreign master",))
            return Action(kind, None, self._random.randrange(10**6))
        if draw < 0.038:
            return Action("do", self._life(container, name))
        step = self._edit(container, name, containers)
        if len(container.interfaces) == 1 and step.words[1:2] == (container.interfaces[0].name,) and self.chance(0.2):
            step = replace(step, is_short=step.verb not in NAMES_INTERFACE)
        draw = self._random.random()
        if draw < 0.10:
            return Action("dry", step)
        if draw < 0.25:
            number = self.pick(CHANGES)
            return Action("refuse", step, number // 4 if step.verb in FEW_CHANGES else number)
        if draw < 0.27:
            return Action("die", step, self.pick(CHANGES))
        if draw < 0.28:
            return Action("in the way", step)
        return Action("do", step)

    # --- commands ------------------------------------------------------------------------------------------------

    def _life(self, container: Container, name: str) -> Step:
        if container.is_running:
            verb = self.pick(("ct stop", "ct restart", "ct start"))
            return Step(verb, () if verb == "ct start" else (("-k", None),), (name,))
        return Step(self.pick(("ct start", "ct start", "ct start", "ct stop")), (), (name,))

    def _edit(self, container: Container, name: str, containers: Sequence[Container]) -> Step:
        if not container.interfaces or (len(container.interfaces) < len(NAMES) and self.chance(0.06)):
            return self._new(container, name)
        verb = self.pick(
            ("ip add",) * 7
            + ("ip del",) * 5
            + ("route add",) * 5
            + ("route del",) * 4
            + ("source add",) * 2
            + ("source del",) * 2
            + ("set",) * 7
            + ("ip reorder",) * 3
            + ("ip move",) * 3
            + ("standby",) * 2
            + ("take",) * 2
            + ("rename",) * 2
            + ("del", "new")
        )
        if verb == "new":
            return self._new(container, name)
        interface = self.pick(container.interfaces)
        where = (name, interface.name if not self.chance(0.01) else "eth7")
        match verb:
            case "ip add":
                return self._ip_add(interface, where)
            case "ip del":
                return self._ip_del(interface, where)
            case "route add":
                networks = tuple(self._network(interface) for _ in range(self.pick((1, 1, 1, 2, 4))))
                return Step("ct netif route add", self._next_hop(interface), (*where, *networks))
            case "route del":
                return self._route_del(interface, where)
            case "source add":
                return self._source_add(interface, where)
            case "source del":
                return self._source_del(interface, where)
            case "set":
                return Step("ct netif set", self._properties(interface), where)
            case "rename":
                return Step(
                    "ct netif rename", (), (*where, self.pick((*OTHER_NAMES, *BAD_NAMES)[: 5 + self.chance(0.1) * 8]))
                )
            case "ip reorder":
                return self._reorder(interface, where)
            case "ip move":
                return self._move(interface, where, containers)
            case "standby":
                return Step("ct netif standby", (), (*where, *self._set_aside(interface)))
            case "take":
                aside = [str(each) for each in sorted(container.aside, key=str)]
                chosen = self._some(aside) if aside and self.chance(0.9) else self._set_aside(interface)
                return Step("ct netif take", (), (*where, *chosen))
            case _:
                # There is not much else for which it is refused.
                return Step("ct netif del", (), where if not self.chance(0.2) else (name, "eth7"))

    def _new(self, container: Container, name: str) -> Step:
        free = [each for each in NAMES if all(each != other.name for other in container.interfaces)]
        chosen = self.pick(free) if free and not self.chance(0.05) else self.pick((*NAMES, *BAD_NAMES))
        options = self._automatic() if self.chance(0.3) else self._vias(None, is_new=True)
        return Step("ct netif new routed", (*options, *self._others(0.15)), (name, chosen))

    def _automatic(self) -> tuple[Option, ...]:
        options: list[Option] = [("--via", "auto")] if self.chance(0.5) else []
        if self.chance(0.3):
            version = self.pick((4, 6))
            options.append(("--no-via", str(version)))
        elif options and self.chance(0.4):
            options.append(("--via", self.value(self.pick((VIAS_4, VIAS_6)))))
        return tuple(options)

    def _others(self, probability: float) -> tuple[Option, ...]:
        """Each of the properties with that probability."""
        options: list[Option] = [
            ("--mtu", self.pick(MTUS)),
            ("--hwaddr", self.pick(MACS)),
            ("--guest", self.pick(("report", "enforce", "once", "often" if self.chance(0.2) else "report"))),
            (self.pick(("--via-public", "--no-via-public")), None),
            (self.pick(("--force", "--delegate")), None),
        ]
        return tuple(each for each in options if self.chance(probability))

    def _properties(self, interface: Interface) -> tuple[Option, ...]:
        """What `set` may say."""
        draw = self._random.random()
        if draw < 0.6:
            return (*self._vias(interface, is_new=False), *self._others(0.05))
        if draw < 0.7:
            return (("--no-via", self.pick(("4", "6"))), *self._others(0.05))
        if draw < 0.8:
            return (*self._automatic(), *self._others(0.05))
        return (*self._others(0.3), *((("--default", None),) if self.chance(0.4) else ()))

    def _next_hop(self, interface: Interface) -> tuple[Option, ...]:
        options: tuple[Option, ...] = ((self.pick(("--force", "--delegate")), None),) if self.chance(0.2) else ()
        if self.chance(0.7):
            return options
        assigned = [str(each.ip) for each in interface.addresses]
        name = self.pick(("--via", "--next-hop"))
        return (*options, (name, self.pick(assigned) if assigned else self._address(interface)))

    def _reorder(self, interface: Interface, where: tuple[str, str]) -> Step:
        assigned = [str(each.ip) for each in interface.addresses] or [self._address(interface)]
        address, before = self.pick(assigned), self.pick(assigned)
        # One that is not the first of its version: then there is something to change.
        pairs = [
            (str(later.ip), str(earlier.ip))
            for at, later in enumerate(interface.addresses)
            for earlier in interface.addresses[:at]
            if earlier.version == later.version
        ]
        if pairs and self.chance(0.9):
            address, before = self.pick(pairs)
        options: list[Option] = [("--first", None)] if self.chance(0.5) else [("--before", before)]
        if self.chance(0.03):
            options += [("--first", None), ("--before", before)]
        return Step("ct netif ip reorder", tuple(options), (*where, address))

    def _vias(self, interface: Interface | None, *, is_new: bool) -> tuple[Option, ...]:
        options: list[Option] = []
        versions = self.pick(((4,), (6,), (4, 6), (4, 6)))
        for version in versions:
            has_network = is_new or interface is None or version not in interface.vias or self.chance(0.6)
            text = self.value(VIAS_4 if version == 4 else VIAS_6)
            if self.chance(0.02):
                text = self.pick(NONSENSE)
            if has_network:
                options.append(("--via", text))
            if not has_network or self.chance(0.25):
                options += self._ends(
                    text if has_network or interface is None else str(interface.vias[version].network)
                )
        if self.chance(0.02):
            options.append(self.pick((("--via", self.pick(VIAS_4)), ("--host-addr", "10.100.0.1"))))
        return tuple(options)

    def _ends(self, text: str) -> list[Option]:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return []
        numbers = [self._random.randrange(min(network.num_addresses, 16)) for _ in range(2)]
        ends = [
            f"{network.network_address + number}{self.pick(('', '', f'/{network.prefixlen}'))}" for number in numbers
        ]
        options: list[Option] = [("--host-addr", ends[0]), ("--ct-addr", ends[1])]
        return options if not self.chance(0.03) else options[:1]

    def _ip_add(self, interface: Interface, where: tuple[str, str]) -> Step:
        if self.chance(0.06):
            of_version = (self._one_version(),) if self.chance(0.3) else ()
            name = self.pick(tuple(ADDRESS_POOLS)) if not self.chance(0.05) else "none"
            return Step("ct netif ip add", (("--from-pool", name), *of_version), where)
        count = self.pick((1, 1, 1, 1, 2, 3, 5))
        addresses = [self._address(interface) for _ in range(count)]
        options: list[Option] = []
        if self.chance(0.15):
            options.append(("--no-route", None))
        if self.chance(0.02 if options else 0.12):
            options.append(("--route-as", self._network(interface)))
        if self.chance(0.15):
            options.append((self.pick(("--force", "--delegate")), None))
        if self.chance(0.2):
            options.append(("--if-needed", None))
        return Step("ct netif ip add", tuple(options), (*where, *addresses))

    def _move(self, interface: Interface, where: tuple[str, str], containers: Sequence[Container]) -> Step:
        others = [(one.name, each.name) for one in containers for each in one.interfaces if each is not interface]
        to = self.pick(others) if others and not self.chance(0.03) else (where[0], self.pick(NAMES))
        options: tuple[Option, ...] = ((self.pick(("--force", "--delegate")), None),) if self.chance(0.2) else ()
        if self.chance(0.2):
            return Step("ct netif ip move", options, (*where, *to, "all"))
        assigned = [str(each) if self.chance(0.5) else str(each.ip) for each in interface.addresses]
        chosen = self._some(assigned) if assigned and not self.chance(0.03) else [self._address(interface)]
        return Step("ct netif ip move", options, (*where, *to, *chosen))

    def _set_aside(self, interface: Interface) -> list[str]:
        if self.chance(0.1):
            return ["all"]
        routed = [str(each.network) for each in interface.routes]
        return self._some(routed) if routed and not self.chance(0.05) else [self._network(interface)]

    def _ip_del(self, interface: Interface, where: tuple[str, str]) -> Step:
        options: tuple[Option, ...] = (("--keep-route", None),) if self.chance(0.2) else ()
        if self.chance(0.05):
            options += (self._one_version(),) if self.chance(0.5) else ()
            return Step("ct netif ip del", options, (*where, "all"))
        if interface.addresses and not self.chance(0.05):
            chosen = self._some([str(each) if self.chance(0.5) else str(each.ip) for each in interface.addresses])
        else:
            chosen = [self._address(interface)]
        return Step("ct netif ip del", options, (*where, *chosen))

    def _route_del(self, interface: Interface, where: tuple[str, str]) -> Step:
        options: tuple[Option, ...] = ((self.pick(("--force", "--leave-unrouted")), None),) if self.chance(0.4) else ()
        if self.chance(0.05):
            options += (self._one_version(),) if self.chance(0.5) else ()
            return Step("ct netif route del", options, (*where, "all"))
        if interface.routes and not self.chance(0.05):
            chosen = self._some([str(each.network) for each in interface.routes])
        else:
            chosen = [self._network(interface)]
        return Step("ct netif route del", options, (*where, *chosen))

    def _source_add(self, interface: Interface, where: tuple[str, str]) -> Step:
        force = self.pick(("--force", "--allow-foreign-source"))
        options: tuple[Option, ...] = ((force, None),) if self.chance(0.3) else ()
        sources = [self._network(interface) for _ in range(self.pick((1, 1, 2)))]
        if self.chance(0.1):
            sources[0] = self.pick(("0.0.0.0/0", "::/0"))
        return Step("ct netif source add", options, (*where, *sources))

    def _source_del(self, interface: Interface, where: tuple[str, str]) -> Step:
        if self.chance(0.1):
            options: tuple[Option, ...] = (self._one_version(),) if self.chance(0.5) else ()
            return Step("ct netif source del", options, (*where, "all"))
        if interface.sources and not self.chance(0.05):
            return Step("ct netif source del", (), (*where, *self._some([str(each) for each in interface.sources])))
        return Step("ct netif source del", (), (*where, self._network(interface)))

    # --- values --------------------------------------------------------------------------------------------------

    def _some(self, values: list[str]) -> list[str]:
        count = self.pick((1, 1, 1, 2, 3))
        return (
            [self.pick(values) for _ in range(count)]
            if self.chance(0.05)
            else self._random.sample(values, min(count, len(values)))
        )

    def _one_version(self) -> Option:
        return self.pick((("-v", "4"), ("-v", "6"), ("-4", None), ("-6", None)))

    def _version(self, interface: Interface) -> int:
        return self.pick(sorted(interface.vias)) if interface.vias and not self.chance(0.03) else self.pick((4, 6))

    def _address(self, interface: Interface) -> str:
        if self.chance(0.03):
            return self.pick(NONSENSE)
        version = self._version(interface)
        via = interface.vias.get(version)
        if via is not None and self.chance(0.2):
            address = via.network.network_address + self._random.randrange(min(via.network.num_addresses, 8))
            return f"{address}{self.pick(('', f'/{via.length}'))}"
        if version == 4:
            return self.value(ADDRESSES_4) + self.pick(LENGTHS_4)
        return self.value(ADDRESSES_6) + self.pick(LENGTHS_6)

    def _network(self, interface: Interface) -> str:
        if self.chance(0.03):
            return self.pick(NONSENSE)
        version = self._version(interface)
        if interface.addresses and self.chance(0.2):
            return self.pick([str(each.network) for each in interface.addresses])
        return self.value(NETWORKS_4 if version == 4 else NETWORKS_6)
