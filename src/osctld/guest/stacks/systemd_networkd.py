"""systemd-networkd, with or without netplan in front of it.

The first file in order that matches a link wins: 00- comes before 10-netplan-* and whatever matches all links. Links
are matched by MAC address, because a link that is matched by name loses all it has when it is renamed; and by kind,
because a bridge may have the MAC address of its port. RequiredForOnline=no must not be said: if no other link is left,
systemd-networkd-wait-online waits for two minutes and fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestAddress, GuestDefault, GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import header, is_ours

_DIRECTORY = "/etc/systemd/network"
_PATTERN = f"{_DIRECTORY}/00-osctl-*.network"


class SystemdNetworkd(Stack):
    name = "systemd_networkd"
    evidence = (("/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"),)
    #: With files that agree, a reload changes nothing. Without it, the next change of the carrier brings back what the
    #: old ones said.
    reload = (
        "systemctl is-active --quiet systemd-networkd.service || exit 0; exec systemctl reload systemd-networkd.service"
    )

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (_PATTERN,)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        wanted = {f"{_DIRECTORY}/00-osctl-{each.name}.network": each for each in interfaces}
        for path, each in wanted.items():
            yield WantedFile(path, header(path) + "\n\n".join(map("\n".join, _sections(each))) + "\n")
        for path, there in found.files.items():
            name = path.removeprefix(f"{_DIRECTORY}/00-osctl-")
            if name != path and path not in wanted and there.text is not None and is_ours(there.text):
                yield WantedFile(path, None)


def _sections(interface: GuestInterface) -> Iterator[list[str]]:
    yield ["[Match]", f"MACAddress={interface.mac}", "Kind=veth"]
    if interface.mtu is not None:
        yield ["[Link]", f"MTUBytes={interface.mtu}"]
    yield [
        "[Network]",
        "DHCP=no",
        "LinkLocalAddressing=ipv6",
        "IPv6AcceptRA=no",
        "IPv6SendRA=no",
        "LLMNR=no",
        "MulticastDNS=no",
        "ConfigureWithoutCarrier=yes",
        "IgnoreCarrierLoss=yes",
    ]
    for address in interface.addresses:
        yield ["[Address]", *_address(address)]
    for default in interface.defaults:
        yield ["[Route]", *_default(default)]


def _address(each: GuestAddress) -> Iterator[str]:
    """In a section of its own: an `Address=` of [Network] cannot say that it is not to be detected as a duplicate."""
    yield f"Address={each.address}"
    if each.address.version == 4:
        if not each.is_source:
            yield "Scope=link"
        return
    if not each.is_source:
        yield "PreferredLifetime=0"
    yield "DuplicateAddressDetection=none"


def _default(each: GuestDefault) -> Iterator[str]:
    """Without `Protocol=` it is that of osctld's own route, `static`."""
    yield f"Gateway={each.gateway}"
    yield f"PreferredSource={each.source}"
    if each.metric:
        yield f"Metric={each.metric}"


STACK = SystemdNetworkd()
