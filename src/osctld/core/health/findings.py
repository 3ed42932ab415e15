"""What hinders containers on this host: rules over facts, each finding with the command that fixes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from osctld.core.authority.blocks import Block
from osctld.core.authority.null_routes import NullRoute, Yielded
from osctld.core.authority.rules import OlderHolding, named
from osctld.core.authority.ways import Astray
from osctld.core.command import Column, Listing
from osctld.core.config.confinement import NESTING_PROFILE, PARSER, PROFILE, AppArmorFacts
from osctld.core.health.firewalls import (
    ForwardChain,
    ForwardedPacket,
    Maker,
    chains_that_drop,
    chains_with_strict_reverse_path,
)
from osctld.core.health.programs import DECOMPRESSORS, PACKAGES
from osctld.core.plan.kernel_state import LINK_PREFIX, HostFacts
from osctld.core.plan.packet_filter import TABLES
from osctld.core.reconcile.host_level import (
    ipv6_forwarding_commands,
    links_without_default,
    takes_advertisements_unless_forwarding,
)

COLUMNS = (
    Column(
        "severity",
        "error: containers are or will be unreachable; warning: something may fail; note",
        marks={"error": "bad", "warning": "doubtful"},
    ),
    Column("code", "stable identifier, for programs"),
    Column("what", "what was found"),
    Column("why", "why it matters"),
    Column("commands", "commands that fix it, one after another", type=list[str], is_lines=True),
)

#: Where a setting goes that has to override those of packages: in sysctl.d(5) the last file by name wins.
OVERRIDES = "/etc/sysctl.d/zz-osctl.conf"

NETWORKD_FILE = "/etc/systemd/network/05-osctl.network"
#: Where a package has the program, and where `./dev install` puts it.
INSTALLATIONS = ("/usr/lib/osctl", "/usr/local/lib/osctl")
NETWORK_MANAGER_FILE = "/etc/NetworkManager/conf.d/osctl.conf"

#: What the original's client opens for `ct ls`, and for `ct show` of a container that is running.
LOADAVGS = "/var/lib/lxcfs/proc/.loadavgs"

#: Settings that are asked for beside those of uplinks; paths below /proc/sys.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh3",
    "fs/inotify/max_user_instances",
)

#: Approximate number of inotify instances of a guest with systemd; counted against root, who created the user
#: namespaces.
_INOTIFY_INSTANCES = 8
#: Entries of the kernel's neighbour table for each interface, about: two versions, and as many that are not permanent.
_NEIGHBOURS = 4

#: From here on a link that is up can be renamed (net: allow live renaming when an interface is up, Linux 6.2).
_LIVE_RENAME = (6, 2)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be. `code` is stable; `commands` fix it, run one after another."""

    severity: Severity
    code: str
    what: str
    why: str
    commands: tuple[str, ...] = ()


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


def findings(facts: HealthFacts) -> tuple[Finding, ...]:
    """All that is not as it should be, the worst first."""
    rules = (_programs, _apparmor, _forwarding, _not_switched_on, _advertised_routes)
    filters = (_firewalls, _legacy_firewalls, _boot)
    more = (_held_by_both, _yielded, _astray, _ports, _reverse_path, _strict_ipv6_reverse_path, _limits)
    others = (_installations, _networkd, _network_manager, _original, _kernel)
    found = [each for rule in (*rules, *filters, *more, *others) for each in rule(facts)]
    order = tuple(Severity)
    return tuple(sorted(found, key=lambda each: order.index(each.severity)))


def _yielded(facts: HealthFacts) -> Iterator[Finding]:
    for container, each in facts.yielded:
        match each.to:
            case NullRoute():
                severity, code = Severity.WARNING, "null-route"
            case Block():
                severity, code = Severity.NOTE, "block"
            case _:
                severity, code = Severity.ERROR, "in-the-way"
        yield Finding(
            severity,
            code,
            f"{container}: {each}",
            "meanwhile the network is not routed to its container",
            (each.command,),
        )


def _astray(facts: HealthFacts) -> Iterator[Finding]:
    told = {(each.objection.wanted.holder, each.objection.wanted.network) for each in facts.older_holdings}
    for each in facts.astray:
        if (each.holder, each.network) in told and "is an address of the host" in each.cause:
            continue  # held by both
        more = f" and {each.count - 1} more" if each.count > 1 else ""
        yield Finding(
            Severity.WARNING if each.is_host_s else Severity.ERROR,
            "astray",
            f"{each.network}{more} of {each.holder}: {each.cause}",
            "packets from the host itself do not reach the container"
            if each.is_host_s
            else "they do not reach the container, although its route is present",
            each.commands,
        )
    for version in facts.without_main:
        yield Finding(
            Severity.ERROR,
            "no-main-table",
            f"no routing rule looks up the main table for all IPv{version} packets",
            "the routes to containers are in that table",
            (f"ip{' -6' if version == 6 else ''} rule add pref 32766 lookup main",),
        )


def _ports(facts: HealthFacts) -> Iterator[Finding]:
    for link, master in facts.host.ports:
        yield Finding(
            Severity.ERROR,
            "bridge-port",
            f"{link} is a port of {master.name} ({master.kind})",
            "the host has to route on this link: packets that enter a bridge through it are dropped, and in a VRF the "
            "routes to the container are in a table that others do not use",
            (f"ip link set dev {link} nomaster",),
        )


def listing(found: Sequence[Finding]) -> Listing:
    """Findings as a reply; its exit status is 1 when there are errors among them."""
    return Listing(
        columns=COLUMNS,
        shown=tuple(column.name for column in COLUMNS if column.name != "code"),
        rows=tuple(msgspec.structs.asdict(each) for each in found),
        is_paragraphs=True,
        when_empty="all is well",
        exit_status=int(any(each.severity is Severity.ERROR for each in found)),
    )


# --- programs and kernel ----------------------------------------------------------------------------------------------


def _programs(facts: HealthFacts) -> Iterator[Finding]:
    for program in facts.missing_programs:
        if program == "busybox":
            severity, why = Severity.WARNING, "containers of the distribution busybox cannot be created"
        elif program in DECOMPRESSORS:
            severity, why = Severity.WARNING, f"containers cannot be created from archives compressed with {program}"
        else:
            severity, why = Severity.ERROR, "containers cannot be created, started or entered"
        yield Finding(
            severity,
            "program-missing",
            f"the program {program} is not installed",
            why,
            (_install(PACKAGES.get(program, program)),),
        )


def _install(package: str) -> str:
    return f"apt-get install --no-install-recommends {package}"


def _apparmor(facts: HealthFacts) -> Iterator[Finding]:
    present = facts.apparmor
    if not present.is_on:
        return
    load = f"{PARSER} -r {present.file}"
    if not facts.requires_apparmor:
        yield Finding(
            Severity.NOTE,
            "not-confined",
            "confinement.apparmor is off in the settings",
            "the kernel has AppArmor, but containers run unconfined",
        )
    elif present.missing and not present.has_parser:
        yield Finding(
            Severity.ERROR,
            "not-confined",
            f"the AppArmor profile {present.missing[0]} is not loaded, and the program {PARSER} is not installed",
            "no container can start, because it would not be confined",
            (_install(PACKAGES[PARSER]), load),
        )
    elif present.missing:
        yield Finding(
            Severity.WARNING,
            "not-confined",
            f"the AppArmor profile {present.missing[0]} is not loaded",
            "the next start of a container has to load it first",
            (load,),
        )
    else:
        for profile in (PROFILE, NESTING_PROFILE):
            if present.modes[profile] == "complain":
                yield Finding(
                    Severity.WARNING,
                    "not-confined",
                    f"the AppArmor profile {profile} is in complain mode",
                    "violations are only logged",
                    (_install("apparmor-utils"), f"aa-enforce {profile}"),
                )


def _original(facts: HealthFacts) -> Iterator[Finding]:
    if facts.serves_original and LOADAVGS not in facts.files:
        yield Finding(
            Severity.NOTE,
            "original-client",
            f"{LOADAVGS} does not exist",
            "the original osctl client is in use, whose ct ls fails without this file",
            (f"install -D /dev/null {LOADAVGS}",),
        )


def _kernel(facts: HealthFacts) -> Iterator[Finding]:
    if facts.kernel < _LIVE_RENAME:
        yield Finding(
            Severity.NOTE,
            "old-kernel",
            f"the kernel is Linux {facts.kernel[0]}.{facts.kernel[1]}",
            "before Linux 6.2, renaming an interface of a running container takes it down for a moment",
        )


# --- forwarding -------------------------------------------------------------------------------------------------------


def _forwarding(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.containers:
        return  # nothing to forward for
    paths = {f"net/ipv4/conf/{each.name}/forwarding": each.has_ipv4_forwarding for each in facts.host.uplinks}
    if facts.host.has_ipv6:
        paths["net/ipv6/conf/all/forwarding"] = facts.host.has_ipv6_forwarding
    for path, is_on in paths.items():
        if not is_on:
            who = "osctld repairs it at its next check" if facts.manages_forwarding else "manage_forwarding is off"
            is_ipv6 = path.startswith("net/ipv6/")
            yield Finding(
                Severity.ERROR,
                "no-forwarding",
                f"{path.replace('/', '.')} is 0",
                f"the host does not forward packets to containers; {who}",
                ipv6_forwarding_commands(facts.host) if is_ipv6 else (f"sysctl -w {_name(path)}=1",),
            )


def _not_switched_on(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.containers:
        return
    for each in facts.host.others:
        if each.has_ipv4_forwarding or not (each.leads_out or each.name in facts.networked):
            continue
        path = f"net/ipv4/conf/{each.name}/forwarding"
        # Who names the uplinks has thought of this one as well, unless there is more behind it than a network.
        is_chosen = facts.names_uplinks and not each.leads_out
        yield Finding(
            Severity.NOTE if is_chosen else Severity.WARNING,
            "link-without-forwarding",
            f"{path.replace('/', '.')} is 0, and {each.name} is not "
            + ("listed in host.uplinks" if facts.names_uplinks else "an uplink"),
            f"IPv4 packets for containers that arrive on {each.name} are dropped, replies included; osctld enables "
            "forwarding on uplinks only, which host.uplinks in osctld.toml can list",
            (f"sysctl -w {_name(path)}=1", _keep(path, 1)),
        )


def _advertised_routes(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.host.has_ipv6_forwarding:
        return
    deaf = [each for each in facts.host.links if takes_advertisements_unless_forwarding(each.accept_ra)]
    hurt = [each for each in deaf if each.has_advertised_default or each.was_answered]
    for each in hurt:
        yield Finding(
            Severity.ERROR,
            "advertised-route",
            (
                f"the IPv6 default route on {each.name} was advertised, and "
                if each.has_advertised_default
                else f"{each.name} has lost its advertised IPv6 default route: "
            )
            + f"net.ipv6.conf.{each.name}.accept_ra is {each.accept_ra}",
            "a host that forwards IPv6 then ignores router advertisements"
            + (", and the route will expire" if each.has_advertised_default else ""),
            (_always_accept(each.name), *(() if each.has_advertised_default else (_ASK,))),
        )
    others = [each.name for each in deaf if each not in hurt]
    if takes_advertisements_unless_forwarding(facts.host.default_accept_ra):
        others.append("default")
    if others:
        yield Finding(
            Severity.WARNING if facts.containers else Severity.NOTE,
            "accept-ra",
            f"IPv6 forwarding is on, and accept_ra is 1 for {', '.join(others)}",
            "router advertisements on these links are ignored and provide neither addresses nor a default route"
            + ("; 'default' stands for links that appear later" if "default" in others else ""),
            tuple(map(_always_accept, others)),
        )
    if not facts.host.has_ipv6_default:
        for name in links_without_default(facts.host):
            yield Finding(
                Severity.WARNING,
                "no-advertised-route",
                f"there is no IPv6 default route, and the kernel no longer solicits routers on {name}",
                "the next router advertisement may take half an hour; a solicited router answers at once",
                (_ASK,),
            )


#: It asks routers on links that lack what they advertise.
_ASK = "osctl net reconcile"


def _always_accept(link: str) -> str:
    return f"sysctl -w {_name(f'net/ipv6/conf/{link}/accept_ra')}=2"


def _name(path: str) -> str:
    """A setting as sysctl(8) takes it, also where the name of a link has dots."""
    return path if "." in path else path.replace("/", ".")


# --- addresses --------------------------------------------------------------------------------------------------------


def _held_by_both(facts: HealthFacts) -> Iterator[Finding]:
    for each in facts.older_holdings:
        objection, there = each.objection, each.objection.there
        asked, more = named(objection.wanted.network), f" and {each.count - 1} more" if each.count > 1 else ""
        whose = f"{asked}{more} of {objection.wanted.holder}"
        is_same = asked == there.subject and not more
        yield Finding(
            Severity.WARNING if objection.rule.yields else Severity.ERROR,
            "held-by-both",
            f"{whose} is {there.is_what}" if is_same else f"{whose}: {there}",
            "the host and the container both use it, and one of them does not receive its packets; the container had "
            "it before the host used it, or got it with --force",
            each.commands,
        )


# --- firewalls of others ----------------------------------------------------------------------------------------------


def _packets(facts: HealthFacts) -> Iterator[ForwardedPacket]:
    inside, outside = f"{LINK_PREFIX}ct-eth0", facts.host.uplinks[0].name if facts.host.uplinks else "eth0"
    group = facts.link_group
    for version in (4, 6) if facts.host.has_ipv6 else (4,):
        yield ForwardedPacket(version, outside, inside, group_out=group)
        yield ForwardedPacket(version, inside, outside, group_in=group)


def _firewalls(facts: HealthFacts) -> Iterator[Finding]:
    for chain in chains_that_drop(facts.ruleset, _packets(facts), own=_OWN_TABLES):
        yield Finding(
            Severity.ERROR if chain.is_sure else Severity.WARNING,
            "firewall",
            f"the chain {chain} drops packets forwarded to or from containers"
            + ("" if chain.is_sure else ", unless rules that osctl cannot evaluate accept them"),
            f"it is {_WHOSE[chain.maker]}; packets dropped by one chain are lost, whatever other chains accept",
            tuple(_mend(chain, facts.link_group)),
        )


_OWN_TABLES = tuple((family, name) for family, _, name in (table.partition(" ") for table in TABLES))

_WHOSE = {
    Maker.DOCKER: "docker's, which accepts what its chain DOCKER-USER accepts, until the next boot",
    Maker.UFW: "ufw's, which keeps rules added with ufw",
    Maker.FIREWALLD: "firewalld's, which forwards nothing between zones unless a policy allows it",
    Maker.IPTABLES: "made by iptables; add these rules to its permanent configuration as well",
    Maker.NFTABLES: "made by nft; add these rules to its permanent configuration as well",
}


def _mend(chain: ForwardChain, group: int) -> Iterator[str]:
    links = f"{LINK_PREFIX}+"
    iptables = "ip6tables" if chain.family == "ip6" else "iptables"
    match chain.maker:
        case Maker.DOCKER:
            yield f"{iptables} -I DOCKER-USER -i {links} -j ACCEPT"
            yield f"{iptables} -I DOCKER-USER -o {links} -j ACCEPT"
        case Maker.UFW:
            yield f"ufw route allow in on {links}"
            yield f"ufw route allow out on {links}"
        case Maker.FIREWALLD:
            yield "firewall-cmd --permanent --new-zone=osctl"
            yield f"firewall-cmd --permanent --zone=osctl --add-interface={links}"
            for policy, ingress, egress in (("osctl-in", "ANY", "osctl"), ("osctl-out", "osctl", "ANY")):
                yield f"firewall-cmd --permanent --new-policy={policy}"
                yield f"firewall-cmd --permanent --policy={policy} --add-ingress-zone={ingress}"
                yield f"firewall-cmd --permanent --policy={policy} --add-egress-zone={egress}"
                yield f"firewall-cmd --permanent --policy={policy} --set-target=ACCEPT"
            yield "firewall-cmd --reload"
        case Maker.IPTABLES:
            yield f"{iptables} -I {chain.name} -i {links} -j ACCEPT"
            yield f"{iptables} -I {chain.name} -o {links} -j ACCEPT"
        case Maker.NFTABLES:
            yield f"nft insert rule {chain} iifgroup {group} accept"
            yield f"nft insert rule {chain} oifgroup {group} accept"


def _legacy_firewalls(facts: HealthFacts) -> Iterator[Finding]:
    links = f"{LINK_PREFIX}+"
    for version, chain in facts.legacy.items():
        if chain.policy != "ACCEPT" and not (links in chain.accepted_in and links in chain.accepted_out):
            iptables = "iptables-legacy" if version == 4 else "ip6tables-legacy"
            yield Finding(
                Severity.ERROR,
                "legacy-firewall",
                f"the policy of the chain FORWARD of {iptables} is {chain.policy}",
                "packets that no rule accepts are dropped; add these rules to the permanent configuration as well",
                tuple(f"{iptables} -I FORWARD {way} {links} -j ACCEPT" for way in ("-i", "-o")),
            )


# --- settings that come back at boot ----------------------------------------------------------------------------------


def _boot(facts: HealthFacts) -> Iterator[Finding]:
    uplinks = {f"net/ipv4/conf/{each.name}/forwarding" for each in facts.host.uplinks}
    all_forwarding = {"net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"}
    wrong = dict.fromkeys(uplinks | all_forwarding, ("0", "1"))
    wrong["net/ipv4/conf/all/rp_filter"] = ("2", "0")
    last = {each.path: each for each in facts.sysctl_lines}
    for path, each in sorted(last.items()):
        bad, good = wrong.get(path, ("", ""))
        if each.value == bad and bad:
            yield Finding(
                Severity.WARNING,
                "reset-at-boot",
                f"{each.file}:{each.line} sets {path.replace('/', '.')} to {bad}",
                "it is applied at boot, and whenever sysctl --system is run",
                (_mend_line(each, good),),
            )


def _mend_line(line: SysctlLine, good: str) -> str:
    if re.search(r"(?:^|/)(?:usr/)?lib/sysctl\.d/|(?:^|/)run/sysctl\.d/", line.file):
        # A package's file comes back with its next version.
        return f"echo '{_name(line.path)} = {good}' >> {OVERRIDES}"
    return f"sed -i '{line.line}s/^/# /' {line.file}"


# --- reverse path and limits ------------------------------------------------------------------------------------------


def _reverse_path(facts: HealthFacts) -> Iterator[Finding]:
    present = facts.sysctls.get("net/ipv4/conf/all/rp_filter", "0")
    if present == "2":
        yield Finding(
            Severity.WARNING,
            "rp-filter",
            "net.ipv4.conf.all.rp_filter is 2",
            "this makes the kernel's own source check loose on every link, and leaves only that of the packet filter",
            ("sysctl -w net.ipv4.conf.all.rp_filter=0",),
        )
    elif present == "1" and (facts.has_container_with_several or 4 in facts.permitted_versions):
        yield Finding(
            Severity.ERROR,
            "rp-filter",
            "net.ipv4.conf.all.rp_filter is 1",
            "a container with several interfaces may answer from the address of one through another; such packets are "
            "dropped"
            if facts.has_container_with_several
            else "packets from an additional allowed source have no route back to the container; they are dropped",
            ("sysctl -w net.ipv4.conf.all.rp_filter=0",),
        )


def _strict_ipv6_reverse_path(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.has_container_with_several and 6 not in facts.permitted_versions:
        return
    for chain in chains_with_strict_reverse_path(facts.ruleset, own=_OWN_TABLES, group=facts.link_group):
        is_firewalld = chain.maker is Maker.FIREWALLD
        yield Finding(
            Severity.ERROR,
            "ipv6-rpfilter",
            f"the chain {chain} drops IPv6 packets that fail a strict reverse path check",
            "a container with several interfaces may answer from the address of one through another, and additional "
            "allowed sources are not routed to it; osctl's own source check permits both"
            + ("; it is firewalld's IPv6_rpfilter" if is_firewalld else ""),
            (
                "sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf",
                "firewall-cmd --reload",
            )
            if is_firewalld
            else (f"nft insert rule {chain} iifgroup {facts.link_group} accept",),
        )


def _limits(facts: HealthFacts) -> Iterator[Finding]:
    wanted = {
        "net/ipv4/neigh/default/gc_thresh3": facts.interfaces * _NEIGHBOURS,
        "net/ipv6/neigh/default/gc_thresh3": facts.interfaces * _NEIGHBOURS,
        "fs/inotify/max_user_instances": facts.containers * _INOTIFY_INSTANCES,
    }
    for path, least in wanted.items():
        present = facts.sysctls.get(path, "")
        if present.isdigit() and int(present) < least:
            is_inotify = path.startswith("fs/")
            count = f"{facts.containers} containers" if is_inotify else f"{facts.interfaces} interfaces"
            yield Finding(
                Severity.WARNING,
                "low-limit",
                f"{path.replace('/', '.')} is {present}, for {count}",
                "programs inside will fail to watch files" if is_inotify else "new neighbours may be refused",
                (f"sysctl -w {_name(path)}={_round_up(least)}", _keep(path, _round_up(least))),
            )


def _round_up(least: int) -> int:
    return 1 << max(10, (least * 2 - 1).bit_length())


def _keep(path: str, value: int) -> str:
    return f"echo '{_name(path)} = {value}' >> {OVERRIDES}"


# --- other programs that manage links ---------------------------------------------------------------------------------


def _networkd(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.runs_networkd:
        return
    if NETWORKD_FILE not in facts.files:
        text = f"[Match]\\nName={LINK_PREFIX}*\\n\\n[Link]\\nUnmanaged=yes\\n"
        yield Finding(
            Severity.WARNING,
            "networkd",
            f"systemd-networkd is running, and {NETWORKD_FILE} is missing",
            "a .network file that matches any link would make it configure the links of containers",
            (f"printf '{text}' > {NETWORKD_FILE}", "networkctl reload"),
        )
    kept = {
        name: facts.settings_of_networkd.get(name, "yes").lower()
        for name in ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
    }
    if _is_true(kept.values()):
        directory = "/etc/systemd/networkd.conf.d"
        text = "[Network]\\n" + "".join(f"{name}=no\\n" for name in kept)
        yield Finding(
            Severity.WARNING,
            "networkd-routes",
            f"systemd-networkd is running with {' and '.join(f'{name}={value}' for name, value in kept.items())}",
            "when restarted, it removes routes and rules that it did not create, on the links that it manages",
            (
                f"mkdir -p {directory}",
                f"printf '{text}' > {directory}/osctl.conf",
                "systemctl restart systemd-networkd",
            ),
        )


def _is_true(values: Iterable[str]) -> bool:
    """As systemd reads booleans, see systemd.syntax(7)."""
    return any(each in ("1", "yes", "y", "true", "t", "on") for each in values)


def _installations(facts: HealthFacts) -> Iterator[Finding]:
    if facts.files.issuperset(INSTALLATIONS):
        yield Finding(
            Severity.WARNING,
            "two-installations",
            f"osctl is installed twice: by a package in {INSTALLATIONS[0]}, and by ./dev install in {INSTALLATIONS[1]}",
            "the latter is running, so that an upgrade of the package has no effect",
            ("./dev uninstall", "systemctl enable --now osctld"),
        )


def _network_manager(facts: HealthFacts) -> Iterator[Finding]:
    if facts.runs_network_manager and not facts.files & {"/etc/udev/rules.d/70-osctl.rules", NETWORK_MANAGER_FILE}:
        text = f"[keyfile]\\nunmanaged-devices=interface-name:{LINK_PREFIX}*\\n"
        yield Finding(
            Severity.WARNING,
            "network-manager",
            "NetworkManager is running, and not configured to leave the links of containers alone",
            "it would configure them like links to a network",
            (f"printf '{text}' > {NETWORK_MANAGER_FILE}", "nmcli general reload"),
        )
