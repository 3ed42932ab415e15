"""What the original's protocol can say of a bridged interface when it is made or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osctld.core.address.addresses import VERSIONS
from osctld.core.errors import Refused
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceRequest


class BridgeRequest(InterfaceRequest, frozen=True, kw_only=True):
    """`link` is the bridge, `dhcp` whether the guest uses DHCP. `gateways` are by IP version, as 4 or v4; those that
    are not named stay as they are."""

    link: str | None = None
    dhcp: bool | None = None
    gateways: dict[str, str | None] | None = None

    def to_create(self) -> Mapping[str, Any]:
        if self.link is None:
            raise Refused("link is required", code="missing", subject="link")
        return self._given()

    def to_change(self, interface: BridgeInterface) -> Mapping[str, Any]:  # noqa: ARG002 - the same of each
        return self._given()

    def _given(self) -> dict[str, Any]:
        given: dict[str, Any] = {"link": self.link, "dhcp": self.dhcp}
        for key, gateway in (self.gateways or {}).items():
            version = key.removeprefix("v")
            if version not in map(str, VERSIONS):
                raise Refused(f"unsupported IP version {key!r}: expected 4 or 6", code="bad-version", subject=key)
            given[f"gateway_v{version}"] = gateway
        return {key: value for key, value in given.items() if value is not None}
