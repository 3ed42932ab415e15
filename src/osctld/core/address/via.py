"""The interconnecting network between host and container: one of each IP version per interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from osctld.core.address.addresses import (
    VERSIONS,
    Address,
    InterfaceAddress,
    Network,
    reason_not_routable,
    reason_not_unicast,
)
from osctld.core.errors import Refused

#: The longest prefix whose two addresses can both be ends: RFC 3021 for IPv4, RFC 6164 for IPv6.
LONGEST_PREFIX = {4: 31, 6: 127}

#: Vias with a shorter prefix than this are wide: they hold more than the two ends.
NARROW_PREFIX = {4: 30, 6: 126}

#: RFC 3927: never forwarded by routers, hence free for links between a host and its own containers.
IPV4_LINK_LOCAL = Network.parse("169.254.0.0/16")


class Via(msgspec.Struct, frozen=True):
    """The interconnecting network of one IP version, with the two addresses that are its ends.

    Built by `Via.make`, which returns a right one or refuses.
    """

    network: Network
    host_end: Address
    container_end: Address
    is_public: bool

    @property
    def version(self) -> int:
        return self.network.version

    @property
    def host_address(self) -> InterfaceAddress:
        """The host end with the network's prefix length."""
        return self.host_end.with_length(self.network.length)

    @property
    def container_address(self) -> InterfaceAddress:
        """The container end with the network's prefix length."""
        return self.container_end.with_length(self.network.length)

    @property
    def is_wide(self) -> bool:
        """Whether the network holds more addresses than a pair of ends needs: wider than /30, /126."""
        return self.network.length < NARROW_PREFIX[self.version]

    @property
    def broadcast(self) -> Address | None:
        """The IPv4 broadcast address; None where there is none: on a /31 (RFC 3021) and in IPv6."""
        if self.version == 4 and self.network.length < LONGEST_PREFIX[4]:
            return self.network.last
        return None

    def reason_not_usable(self, address: Address) -> str | None:
        """Why an address inside the network cannot be an end or be assigned; None when it can."""
        if self.network.length == LONGEST_PREFIX[self.version]:
            return None
        if address == self.network.address:
            # RFC 4291 2.6.1: every router answers to the subnet-router anycast address, so the host would
            # answer itself.
            return (
                f"the network address of {self.network}"
                if self.version == 4
                else f"the subnet-router anycast address of {self.network}"
            )
        if address == self.broadcast:
            return f"the broadcast address of {self.network}"
        return None

    @classmethod
    def make(
        cls,
        network: Network,
        *,
        host_end: Address | None = None,
        container_end: Address | None = None,
        is_public: bool | None = None,
    ) -> Via:
        """Complete a via: by default the host gets the network address + 1, the container + 2; on a /31 or /127
        both addresses are ends, the host's first. A wide via is public unless told otherwise.

        Raises Refused when the network is too small, or an end is not a usable address of it.
        """
        version = network.version
        reserved = reason_not_routable(network)
        if reserved is not None and not IPV4_LINK_LOCAL.includes(network):
            raise Refused(
                f"{network}: cannot be an interconnecting network, it overlaps {reserved}",
                code="bad-via",
                subject=str(network),
            )
        if network.length > LONGEST_PREFIX[version]:
            raise Refused(
                f"{network}: cannot route via IPv{version} network smaller than /{LONGEST_PREFIX[version]}",
                code="bad-via",
                subject=str(network),
            )
        if (host_end is None) != (container_end is None):
            given = host_end or container_end
            raise Refused(
                f"{given}: provide both host and container address for {network}", code="bad-via", subject=str(given)
            )
        first = 0 if network.length == LONGEST_PREFIX[version] else 1
        via = cls(
            network=network,
            host_end=host_end or Address(version, network.number + first),
            container_end=container_end or Address(version, network.number + first + 1),
            is_public=network.length < NARROW_PREFIX[version] if is_public is None else is_public,
        )
        via._check_ends()
        return via

    def with_ends(self, *, host_end: Address, container_end: Address) -> Via:
        """The same network with other ends. Raises Refused like `make`."""
        return Via.make(self.network, host_end=host_end, container_end=container_end, is_public=self.is_public)

    def _check_ends(self) -> None:
        for name, end in (("host", self.host_end), ("container", self.container_end)):
            if not self.network.includes(end):
                raise Refused(
                    f"network {self.network} does not include {name} address {end}",
                    code="bad-via",
                    subject=str(end),
                )
            reason = self.reason_not_usable(end)
            if reason is not None:
                raise Refused(f"{name} address {end} is {reason}", code="bad-via", subject=str(end))
            special = reason_not_unicast(end)
            if special is not None:
                raise Refused(f"{name} address {end} is {special}", code="bad-via", subject=str(end))
        if self.host_end == self.container_end:
            raise Refused(
                f"{self.host_end}: use different addresses for host and container",
                code="bad-via",
                subject=str(self.host_end),
            )


def parse_vias(
    networks: Iterable[str],
    *,
    host_ends: Iterable[str] = (),
    container_ends: Iterable[str] = (),
    present: Mapping[int, Via] | None = None,
) -> dict[int, Via]:
    """Read what was said as `--via`, `--host-addr` and `--ct-addr`, each at most once per IP version.

    Returns the vias of the versions that were named. Ends without a network change the present via of their
    version. Raises Refused, quoting what is wrong.
    """
    present = present or {}
    named: dict[int, Network] = {}
    typed: dict[int, str] = {}
    for text in networks:
        network = Network.parse(text)
        if network.version in named:
            raise Refused(
                f"{text}: network for IPv{network.version} has already been set to route via {named[network.version]}",
                code="bad-via",
                subject=text,
            )
        named[network.version] = network
        typed[network.version] = text
    hosts = _parse_ends(host_ends, "--host-addr")
    containers = _parse_ends(container_ends, "--ct-addr")

    vias = {}
    for version in VERSIONS:
        host_end, container_end = hosts.get(version), containers.get(version)
        network_of_version = named.get(version)
        if network_of_version is not None:
            held = present.get(version)
            # Whether the world may reach it goes with the network: to name that once more does not change it.
            is_public = held.is_public if held is not None and held.network == network_of_version else None
            try:
                vias[version] = Via.make(
                    network_of_version, host_end=host_end, container_end=container_end, is_public=is_public
                )
            except Refused as refused:
                raise refused.quoting(typed[version]) from None
        elif host_end is not None or container_end is not None:
            given = host_end or container_end
            if version not in present:
                raise Refused(
                    f"{given}: there is no IPv{version} interconnecting network; give one with --via",
                    code="bad-via",
                    subject=str(given),
                )
            if host_end is None or container_end is None:
                raise Refused(
                    f"{given}: provide both host and container address for {present[version].network}",
                    code="bad-via",
                    subject=str(given),
                )
            vias[version] = present[version].with_ends(host_end=host_end, container_end=container_end)
    return vias


def _parse_ends(texts: Iterable[str], option: str) -> dict[int, Address]:
    ends: dict[int, Address] = {}
    for text in texts:
        # A prefix length may be written and is dropped: an end always has the network's.
        end = InterfaceAddress.parse(text).address
        if end.version in ends:
            raise Refused(
                f"{text}: {option} has already been given for IPv{end.version} as {ends[end.version]}",
                code="bad-via",
                subject=text,
            )
        ends[end.version] = end
    return ends
