"""What can be said of a routed interface when it is made and when it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from osctld.core.address.addresses import VERSIONS
from osctld.core.address.via import Via, parse_vias
from osctld.core.command import Flag, Option
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.config.via_pools import automatic_via, pools
from osctld.core.errors import UsageError
from osctld.netif.interface_type import InterfaceOptions
from osctld.netif.link_options import (
    PERMISSIONS,
    Delegate,
    Force,
    Guest,
    Hwaddr,
    Mtu,
    OverlapHost,
    chosen_properties,
)
from osctld.netif.routed.interface import RoutedInterface

#: Instead of a network: the next free ones, of the versions that are not named otherwise.
AUTO = "auto"


class RoutedOptions(InterfaceOptions, frozen=True, kw_only=True):
    """Options of `ct netif new routed` and, of a routed interface, of `ct netif set`."""

    permissions = PERMISSIONS

    via: Annotated[
        tuple[str, ...],
        Option(
            ("--via",),
            "NETWORK",
            "Interconnecting network, once for IPv4 and once for IPv6; auto allocates those not given",
            keywords=(AUTO,),
        ),
    ] = ()
    host_addr: Annotated[
        tuple[str, ...], Option(("--host-addr",), "ADDR", "Address of the host end, once per IP version")
    ] = ()
    ct_addr: Annotated[
        tuple[str, ...],
        Option(("--ct-addr",), "ADDR", "Address of the container end, once per IP version"),
    ] = ()
    no_via: Annotated[
        tuple[str, ...],
        Option(("--no-via",), "4|6", "No interconnecting network of this IP version", choices=("4", "6")),
    ] = ()
    via_public: Annotated[
        bool | None,
        Flag(
            ("--via-public",),
            "Allow the network to be used beyond the host; the default if it is larger than /30 or /126",
            negatable=True,
        ),
    ] = None
    announce: Annotated[
        bool | None,
        Flag(
            ("--announce",),
            "A routing daemon may announce the networks; the default. To change it interrupts nothing",
            negatable=True,
        ),
    ] = None
    hwaddr: Hwaddr = None
    mtu: Mtu = None
    guest: Guest = None
    delegate: Delegate = False
    overlap_host: OverlapHost = False
    force: Force = False

    @property
    def allows_delegation(self) -> bool:
        return self.force or self.delegate

    @property
    def allows_overlap(self) -> bool:
        return self.force or self.overlap_host

    def chosen_vias(
        self, host: Host, surroundings: Surroundings, present: Mapping[int, Via], *, is_new: bool
    ) -> dict[int, Via]:
        """The vias that were asked for, of the versions that were named.

        Raises Refused for invalid options, Unavailable if there is no free one.
        """
        gone = {int(version) for version in self.no_via}
        named = [text for text in self.via if text != AUTO]
        vias = parse_vias(named, host_ends=self.host_addr, container_ends=self.ct_addr, present=present)
        for version in gone & vias.keys():
            raise UsageError(
                f"--no-via {version}: IPv{version} is also given by --via or an address, {vias[version].network}"
            )
        if self.via_public is not None:
            chosen = vias if self.via or vias else present
            vias = {
                version: msgspec.structs.replace(via, is_public=self.via_public)
                for version, via in chosen.items()
                if version not in gone
            }
        if AUTO in self.via or (is_new and not named):
            for version in VERSIONS:
                if version in vias or version in gone:
                    continue
                held = present.get(version)
                if held is None or not _is_automatic(host, held):
                    vias[version] = automatic_via(host, surroundings, version, is_public=self.via_public)
                elif self.via_public is not None:
                    vias[version] = msgspec.structs.replace(held, is_public=self.via_public)
        return vias

    def with_properties(self, interface: RoutedInterface) -> RoutedInterface:
        """The interface with MAC address, MTU and so on as asked for. Raises Refused for what makes no sense."""
        chosen = chosen_properties(self, interface.uuid)
        if self.announce is not None:
            chosen["is_announced"] = self.announce
        if "mac" in chosen:
            interface = interface.with_mac(chosen.pop("mac"))
        interface = msgspec.structs.replace(interface, **chosen)
        interface.check_mtu()
        return interface


def _is_automatic(host: Host, via: Via) -> bool:
    """Whether a via is already from the pools: requesting that again does not change the network."""
    return any(pool.includes(via.network) for pool in pools(host, via.version))
