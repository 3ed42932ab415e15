"""What the original's protocol can say of a routed interface when it is made or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from osctld.core.address.addresses import VERSIONS, Network
from osctld.core.errors import Refused
from osctld.netif.interface_type import InterfaceRequest
from osctld.netif.routed.interface import RoutedInterface


class ViaOfVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interconnecting network, and its ends where they are not the default ones."""

    network: str
    host_addr: str | None = None
    ct_addr: str | None = None


class RoutedRequest(InterfaceRequest, frozen=True, kw_only=True):
    """`via` names all wanted networks, by IP version: what a change does not name is removed. Without it, nothing of
    that changes, and a new interface has automatic ones."""

    via: dict[str, ViaOfVersion] | None = None

    def to_create(self) -> Mapping[str, Any]:
        return _options(self.via or {})

    def to_change(self, interface: RoutedInterface) -> Mapping[str, Any]:
        if self.via is None:
            return {}
        options = _options(self.via)
        named = {Network.parse(each).version for each in options["via"]}
        gone = tuple(str(version) for version in sorted(interface.vias) if version not in named)
        return {**options, "no_via": gone} if options["via"] or gone else {}


def _options(via: Mapping[str, ViaOfVersion]) -> dict[str, tuple[str, ...]]:
    """The networks and their ends, as they would be typed. Raises Refused for a wrong IP version."""
    for version, each in via.items():
        if version not in map(str, VERSIONS):
            raise Refused(f"unsupported IP version {version!r}: expected 4 or 6", code="bad-version", subject=version)
        if str(Network.parse(each.network).version) != version:
            raise Refused(f"{each.network} is not IPv{version}", code="bad-version", subject=each.network)
    return {
        "via": tuple(each.network for each in via.values()),
        "host_addr": tuple(each.host_addr for each in via.values() if each.host_addr is not None),
        "ct_addr": tuple(each.ct_addr for each in via.values() if each.ct_addr is not None),
    }
