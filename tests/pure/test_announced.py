"""What is announced: allowed parts of what is routed to containers, within the limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from osctld.announce.announced import Limits, Within, copies, packed_of
from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.config.announcing import AnnounceSettings, NeighborSettings
from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import HOST, KernelState, Routes, Way, guest

SETTINGS = Settings(announce=AnnounceSettings(networks=("198.19.0.0/16", "2001:db8:5::/48"), local_as=65001))


def packed(*texts: str) -> list[bytes]:
    return [Network.parse(each).packed for each in texts]


def way(version: int, protocol: int = 111, namespace: str = HOST) -> Way:
    gateway = Address.parse("10.100.10.102" if version == 4 else "fd00:100::2")
    return Way(version, namespace, "osweb", gateway, protocol, 0 if version == 4 else 8)  # type: ignore[arg-type]


def test_a_copy_goes_the_same_way_and_stands_in_the_table() -> None:
    made = copies(KernelState([Routes(way(4), packed("198.19.1.1/32", "1.2.3.4/32"))]), SETTINGS)
    (routes,) = made.routes.values()
    assert list(routes) == packed("198.19.1.1/32")
    (copy,) = routes.values()
    assert (copy.table, copy.gateway, copy.link, copy.protocol) == (1111, way(4).gateway, "osweb", 111)


def test_what_is_only_present_and_what_a_guest_has_is_no_concern() -> None:
    state = KernelState(
        [
            Routes(way(4, protocol=112), packed("198.19.1.1/32")),
            Routes(way(6, namespace=guest("web")), packed("2001:db8:5::1/128")),
        ]
    )
    assert not copies(state, SETTINGS)


def test_nothing_is_allowed_without_a_list() -> None:
    assert not copies(KernelState([Routes(way(4), packed("198.19.1.1/32"))]), Settings())


NETWORKS = st.builds(
    lambda version, number, length: Network.parse(
        f"{Address(version, number % 2 ** BITS[version])}/{length % (BITS[version] + 1)}"
    ),
    st.sampled_from((4, 6)),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)


@given(st.lists(NETWORKS, max_size=4), NETWORKS)
def test_within_is_what_including_means(around: list[Network], network: Network) -> None:
    expected = any(each.version == network.version and each.includes(network) for each in around)
    assert (network.packed in Within(around)) == expected


def limits(**neighbors: int) -> Limits:
    made = {
        name: NeighborSettings(address=f"192.0.2.{number}", remote_as=65000, limit=limit)
        for number, (name, limit) in enumerate(neighbors.items(), start=1)
    }
    return Limits(made, map(Network.parse, SETTINGS.announce.networks))


def test_the_smallest_limit_holds_and_names_its_neighbour() -> None:
    wanted = packed("198.19.1.1/32", "198.19.1.2/32", "198.19.1.3/32")
    assert limits(large=5, small=2).withheld(wanted, frozenset()) == {wanted[2]: "small"}
    assert limits(large=5).withheld(wanted, frozenset()) == {}


def test_what_is_announced_already_stays() -> None:
    wanted = packed("198.19.1.1/32", "198.19.1.2/32", "198.19.1.3/32")
    assert limits(small=2).withheld(wanted, frozenset(wanted[1:])) == {wanted[0]: "small"}


def test_limits_are_for_each_version() -> None:
    wanted = packed("198.19.1.1/32", "198.19.1.2/32", "2001:db8:5::1/128")
    assert limits(small=2).withheld(wanted, frozenset()) == {}


def test_a_limit_counts_what_its_neighbour_would_be_told() -> None:
    narrow = NeighborSettings(address="192.0.2.1", remote_as=65000, limit=1, networks=("198.19.1.0/24",))
    made = Limits({"narrow": narrow}, map(Network.parse, SETTINGS.announce.networks))
    wanted = packed("198.19.1.1/32", "198.19.2.1/32", "198.19.2.2/32")
    assert made.withheld(wanted, frozenset()) == {}


@given(st.lists(st.integers(0, 50), unique=True), st.integers(1, 20), st.sets(st.integers(0, 50)))
def test_never_more_than_the_limit_and_no_fewer(numbers: list[int], limit: int, before: set[int]) -> None:
    wanted = packed(*(f"198.19.1.{each}/32" for each in numbers))
    announced = frozenset(packed(*(f"198.19.1.{each}/32" for each in before)))
    withheld = limits(one=limit).withheld(wanted, announced)
    left = [each for each in wanted if each not in withheld]
    assert len(left) == min(limit, len(wanted))
    assert withheld.keys() <= set(wanted)
    if any(each in announced for each in withheld):
        assert all(each in announced for each in left)


def test_networks_of_a_state() -> None:
    state = KernelState([Routes(way(4), packed("198.19.1.1/32")), Routes(way(6), packed("2001:db8:5::1/128"))])
    assert sorted(packed_of(state)) == sorted(packed("198.19.1.1/32", "2001:db8:5::1/128"))
