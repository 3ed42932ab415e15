"""Bridged veth: see `interface`."""

from osctld.netif.bridge.bridge_type import BridgeType

TYPE = BridgeType()
