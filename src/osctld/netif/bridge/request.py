"""What the original's protocol can say of a bridged interface when it is made or changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osctld.core.errors import Refused
from osctld.netif.bridge.interface import BridgeInterface
from osctld.netif.interface_type import InterfaceRequest


class BridgeRequest(InterfaceRequest, frozen=True, kw_only=True):
    """`link` is the bridge, `dhcp` whether the guest uses DHCP."""

    link: str | None = None
    dhcp: bool | None = None

    def to_create(self) -> Mapping[str, Any]:
        if self.link is None:
            raise Refused("link is required", code="missing", subject="link")
        return self._given()

    def to_change(self, interface: BridgeInterface) -> Mapping[str, Any]:  # noqa: ARG002 - the same of each
        return self._given()

    def _given(self) -> dict[str, Any]:
        given = {"link": self.link, "dhcp": self.dhcp}
        return {key: value for key, value in given.items() if value is not None}
