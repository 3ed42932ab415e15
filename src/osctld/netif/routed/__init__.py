"""Routed veth: see `interface`."""

from osctld.netif.routed.routed_type import RoutedType

TYPE = RoutedType()
