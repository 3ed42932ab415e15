"""What can be said of a routed interface when it is made and when it is changed: declared once for both commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from osctld.core.addresses import VERSIONS
from osctld.core.command import Flag, Option
from osctld.core.errors import UsageError
from osctld.core.hardware_address import complete_mac
from osctld.core.host import GuestPolicy, Host, derived_mac
from osctld.core.via import Via, parse_vias
from osctld.core.via_pools import automatic_via, pools
from osctld.netif.routed import RoutedInterface

#: Instead of a network: the next free ones, of the versions that are not named otherwise.
AUTO = "auto"


class RoutedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `ct netif new routed` and `ct netif set`."""

    via: Annotated[
        tuple[str, ...],
        Option(
            ("--via",),
            "NETWORK",
            "Interconnecting network, once for IPv4 and once for IPv6; auto takes free ones for versions not named",
            keywords=(AUTO,),
        ),
    ] = ()
    host_addr: Annotated[
        tuple[str, ...], Option(("--host-addr",), "ADDR", "The host's address of that network, once per version")
    ] = ()
    ct_addr: Annotated[
        tuple[str, ...],
        Option(("--ct-addr",), "ADDR", "The container's address of that network, once per version"),
    ] = ()
    no_via: Annotated[
        tuple[str, ...],
        Option(("--no-via",), "4|6", "No interconnecting network of this IP version", choices=("4", "6")),
    ] = ()
    via_public: Annotated[
        bool | None,
        Flag(
            ("--via-public",),
            "The container may speak to the world from the network; by default if it is wider than /30, /126",
            negatable=True,
        ),
    ] = None
    hwaddr: Annotated[
        str | None,
        Option(
            ("--hwaddr",), "MAC|-", "MAC address inside; each x stands for any digit, - for the one chosen by default"
        ),
    ] = None
    mtu: Annotated[
        str | None,
        Option(
            ("--mtu",),
            "N|-",
            "MTU of both ends; - for the default, the smallest among the host's uplinks, with IPv6 1280 at least",
        ),
    ] = None
    guest: Annotated[
        str | None,
        Option(
            ("--guest",),
            "POLICY",
            "Changes that are made inside: report tells of them, enforce mends them, once does not look",
            choices=tuple(GuestPolicy),
        ),
    ] = None
    force: Annotated[
        bool, Flag(("-f", "--force"), "Also inside a network of another container or of the host")
    ] = False

    def chosen_vias(self, host: Host, present: Mapping[int, Via], *, is_new: bool) -> dict[int, Via]:
        """The vias that were asked for, of the versions that were named.

        Raises Refused for what makes no sense, Conflict for what the host uses, Unavailable when there is no free one.
        """
        gone = {int(version) for version in self.no_via}
        named = [text for text in self.via if text != AUTO]
        vias = parse_vias(named, host_ends=self.host_addr, container_ends=self.ct_addr, present=present)
        for version in gone & vias.keys():
            raise UsageError(
                f"--no-via {version}: IPv{version} is named by --via or an address too, {vias[version].network}"
            )
        if self.via_public is not None:
            chosen = vias if self.via or vias else present
            vias = {
                version: msgspec.structs.replace(via, is_public=self.via_public)
                for version, via in chosen.items()
                if version not in gone
            }
        for via in vias.values():
            held = present.get(via.version)
            if held is None or held.network != via.network:
                host.check_free_on_host(via.network, is_forced=self.force)
        if AUTO in self.via or (is_new and not named):
            for version in VERSIONS:
                if version in vias or version in gone:
                    continue
                held = present.get(version)
                if held is None or not _is_automatic(host, held):
                    vias[version] = automatic_via(host, version, is_public=self.via_public)
                elif self.via_public is not None:
                    vias[version] = msgspec.structs.replace(held, is_public=self.via_public)
        return vias

    def with_properties(self, interface: RoutedInterface) -> RoutedInterface:
        """The interface with MAC address, MTU and policy as asked for. Raises Refused for what makes no sense."""
        if self.hwaddr == "-":
            interface = interface.with_mac(derived_mac(interface.uuid, side="guest"))
        elif self.hwaddr is not None:
            interface = interface.with_mac(complete_mac(self.hwaddr, interface_uuid=interface.uuid))
        if self.mtu is not None:
            interface = msgspec.structs.replace(interface, mtu=_mtu(self.mtu))
        if self.guest is not None:
            interface = msgspec.structs.replace(interface, guest_policy=GuestPolicy(self.guest))
        interface.check_mtu()
        return interface


def _is_automatic(host: Host, via: Via) -> bool:
    """Whether a via is cut from the pools already: to ask for that once more does not change the network."""
    return any(pool.includes(via.network) for pool in pools(host, via.version))


def _mtu(text: str) -> int | None:
    if text == "-":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise UsageError(f"invalid argument: --mtu {text} (expected a number, or -)")
    return int(text)
