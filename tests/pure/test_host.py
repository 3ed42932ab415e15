"""Containers and the host: names, ids, link names, MAC addresses, and what several interfaces mean together."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from osctld.core.address.addresses import Network
from osctld.core.config.host import Container, Host, check_interface_name, derived_mac
from osctld.core.config.life import IdMap
from osctld.core.config.settings import IdSettings, Settings
from osctld.core.errors import Refused, Unavailable
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    KernelState,
    PermittedSource,
    Route,
    SiblingLinks,
    Sysctl,
    guest,
)
from osctld.netif.routed.interface import RoutedInterface
from pure.generated import HOST_UUID, container_without_interfaces, empty_host, interface


def host_with(*names: str, user: str | None = None, settings: Settings | None = None) -> Host:
    host = Host(HOST_UUID, settings or Settings())
    for name in names:
        host = host.with_new_container(name, user=user, distribution="busybox", version="stable")
    return host


# --- containers --------------------------------------------------------------------------------------------------


@given(st.text(max_size=110))
def test_a_container_is_named_by_letters_digits_underscore_and_dash(name: str) -> None:
    is_good = re.fullmatch(r"(default:)?[a-zA-Z0-9_-]{1,100}", name) is not None

    if is_good:
        assert host_with(name).container(name).name == name.removeprefix("default:")
    else:
        with pytest.raises(Refused, match="invalid container id"):
            host_with(name)


@pytest.mark.parametrize("name", ["", "a" * 101, "a b", "a/b", "a.b", "../x", "ů", "a\n", "other:web01", "default:"])
def test_a_bad_container_name_is_refused_and_quoted(name: str) -> None:
    with pytest.raises(Refused) as refused:
        host_with(name)

    assert repr(name.removeprefix("default:")) in refused.value.message


def test_a_taken_container_name_is_refused() -> None:
    for again in ("web01", "default:web01"):
        with pytest.raises(Refused, match="container already exists: 'web01'"):
            host_with("web01", again)


def test_a_container_is_found_with_and_without_its_pool() -> None:
    host = host_with("web01")

    assert host.container("web01") is host.container("default:web01")
    with pytest.raises(Refused, match="container not found: 'web02'"):
        host.container("web02")
    with pytest.raises(Refused, match="pool 'tank' not found"):
        host.container("tank:web01")


def test_containers_are_listed_by_name() -> None:
    assert [each.name for each in host_with("b", "c", "a").sorted_containers] == ["a", "b", "c"]


def test_a_container_s_uuid_differs_when_it_is_made_again() -> None:
    host = host_with("web01")
    again = host.without_container("web01").with_new_container(
        "web01", user=None, distribution="busybox", version="stable"
    )

    assert again.container("web01").uuid != host.container("web01").uuid
    assert host.container("web01").uuid == host_with("web01").container("web01").uuid


# --- ids ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([None, "alice", "bob"]), max_size=12))
def test_each_user_has_an_id_range_of_its_own(users: list[str | None]) -> None:
    host = empty_host()
    for index, user in enumerate(users):
        host = host.with_new_container(f"ct{index}", user=user, distribution="busybox", version="stable")

    made = [host.container(f"ct{index}") for index in range(len(users))]
    for one in made:
        for other in made:
            is_shared = one is other or (one.user is not None and one.user == other.user)
            assert (one.id_map == other.id_map) == is_shared
            assert is_shared or abs(one.id_map.offset - other.id_map.offset) >= 65536
        assert one.id_map.offset >= Settings().ids.first
        assert one.id_map.offset + one.id_map.size - 1 <= Settings().ids.last


def test_a_freed_id_range_is_used_again_and_exhaustion_names_the_setting() -> None:
    settings = Settings(ids=IdSettings(100000, 100000 + 2 * 65536 - 1))
    host = host_with("a", "b", settings=settings)

    with pytest.raises(Unavailable, match=r"ids\.first = 100000 and ids\.last = 231071"):
        host.with_new_container("c", user=None, distribution="busybox", version="stable")

    freed = host.without_container("a").with_new_container("c", user=None, distribution="busybox", version="stable")
    assert freed.container("c").id_map == IdMap(100000)


@pytest.mark.parametrize("user", ["", "Alice", "a b", "x" * 30, "root:"])
def test_a_bad_user_name_is_refused_and_quoted(user: str) -> None:
    with pytest.raises(Refused, match="invalid user name") as refused:
        host_with("web01", user=user)

    assert repr(user) in refused.value.message


# --- interface names and link names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("a" * 16, "longer than 15 bytes"),
        ("ůůůůůůůů", "longer than 15 bytes"),
        ("eth/0", "characters other than"),
        ("eth 0", "characters other than"),
        ("eth.0", "characters other than"),
        ("eth:0", "characters other than"),
        ("eth%d", "characters other than"),
        ("ů", "characters other than"),
        ("..", "characters other than"),
        ("-eth", "starts with -"),
        ("eth0\n", "characters other than"),
        ("\udcff", "characters other than"),
        ("eth\ud800", "characters other than"),
        ("lo", "reserved"),
        ("all", "reserved"),
        ("default", "reserved"),
    ],
)
def test_a_name_that_no_link_can_have_is_refused_and_quoted(name: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_interface_name(name)

    assert repr(name) in refused.value.message


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,14}", fullmatch=True))
def test_an_ordinary_name_is_taken(name: str) -> None:
    if name not in ("lo", "all", "default"):
        check_interface_name(name)


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-b-]{1,20}", fullmatch=True), st.from_regex(r"[a-b_][a-b-]{0,14}", fullmatch=True)),
        max_size=12,
        unique=True,
    )
)
def test_link_names_are_short_marked_and_never_shared(wanted: list[tuple[str, str]]) -> None:
    host = empty_host()
    links = []
    for container_name, interface_name in wanted:
        if container_name not in host.containers:
            host = host.with_new_container(container_name, user=None, distribution="busybox", version="stable")
        container = host.container(container_name)
        uuid = container.next_interface_uuid(interface_name)
        link = host.link_name(container_name, interface_name, uuid=uuid)
        made = msgspec.structs.replace(interface(name="x"), name=interface_name, uuid=uuid, link=link)
        host = host.with_container(container.with_new_interface(made))
        links.append(link)

    assert len(set(links)) == len(links)
    assert all(link.startswith("os") and len(link) <= 15 for link in links)


def test_a_link_name_that_fits_is_readable() -> None:
    assert empty_host().link_name("myct01", "eth0", uuid="u") == "osmyct01-eth0"


@given(st.uuids(), st.sampled_from(["guest", "host"]))
def test_a_mac_address_is_local_unicast_and_stays_the_same(uuid: object, side: str) -> None:
    mac = derived_mac(str(uuid), side=side)

    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", mac)
    assert mac == derived_mac(str(uuid), side=side)
    assert derived_mac(str(uuid), side="guest") != derived_mac(str(uuid), side="host")


# --- interfaces of one container ---------------------------------------------------------------------------------


def container_with(*names: str, vias: tuple[tuple[str, ...], ...]) -> Container:
    container = container_without_interfaces()
    for name, via in zip(names, vias, strict=True):
        made = interface(via=via, name=name)
        container = container.with_new_interface(msgspec.structs.replace(made, link=f"os{name}", uuid=name))
    return container


def desired(container: Container) -> KernelState:
    return container.desired(Settings(), default_mtu=1500)


def test_an_interface_name_is_taken_once() -> None:
    with pytest.raises(Refused, match="interface 'eth0' already exists in web01"):
        container_with("eth0", "eth0", vias=(("10.0.0.0/30",), ("10.0.0.4/30",)))


def test_an_interface_is_found_by_name_or_refused() -> None:
    container = container_with("eth0", vias=(("10.0.0.0/30",),))

    assert container.interface("eth0").name == "eth0"
    for look in (container.interface, container.without_interface):
        with pytest.raises(Refused, match="'eth1': network interface not found in web01"):
            look("eth1")


def test_an_interface_made_again_is_another_one() -> None:
    before = container_without_interfaces()
    after = before.with_new_interface(interface()).without_interface("eth0")

    assert after.interfaces == ()
    assert after.next_interface_uuid("eth0") != before.next_interface_uuid("eth0")


def test_metrics_grow_with_the_order_of_the_interfaces_per_version() -> None:
    container = container_with(
        "eth0", "eth1", "eth2", vias=(("10.0.0.0/30", "fd00::/126"), ("10.0.0.4/30",), ("10.0.0.8/30", "fd00::4/126"))
    )
    defaults = [
        (each.link, each.network.version, each.metric)
        for each in desired(container).objects
        if isinstance(each, Route) and each.namespace == guest("web01")
    ]

    assert defaults == [
        ("eth0", 4, 0),
        ("eth0", 6, 16),
        ("eth1", 4, 100),
        ("eth2", 4, 200),
        ("eth2", 6, 116),
    ]


def test_several_interfaces_are_siblings_and_checked_by_the_packet_filter_alone() -> None:
    one = desired(container_with("eth0", vias=(("10.0.0.0/30",),)))
    two = desired(container_with("eth0", "eth1", vias=(("10.0.0.0/30",), ("10.0.0.4/30",))))

    def siblings(state: KernelState) -> set[tuple[str, str]]:
        return {(each.link, each.sibling) for each in state.objects if isinstance(each, SiblingLinks)}

    def reverse_path_filters(state: KernelState, *, inside: bool = False) -> set[str]:
        settings = (each for each in state.objects if isinstance(each, Sysctl) and each.path.endswith("rp_filter"))
        return {each.value for each in settings if (each.namespace != HOST) == inside}

    assert (siblings(one), reverse_path_filters(one)) == ({("oseth0", "oseth0")}, {"1"})
    assert siblings(two) == {(one, other) for one in ("oseth0", "oseth1") for other in ("oseth0", "oseth1")}
    assert reverse_path_filters(two) == {"0"}
    assert (reverse_path_filters(one, inside=True), reverse_path_filters(two, inside=True)) == (set(), {"2"})
    assert all(each.namespace in (HOST, guest("web01")) for each in two.objects)


@pytest.mark.parametrize(("source", "value"), [("198.51.100.0/24", "0"), ("2001:db8:64::/48", "1")])
def test_an_ipv4_source_that_is_not_routed_is_checked_by_the_packet_filter_alone(source: str, value: str) -> None:
    container = container_with("eth0", vias=(("10.0.0.0/30", "fd00::/126"),))
    (one,) = container.interfaces
    assert isinstance(one, RoutedInterface)
    draft = one.draft()
    draft.permit(Network.parse(source), typed=source)
    state = desired(container.with_interface(one.with_draft(draft)))

    (setting,) = (each for each in state.objects if isinstance(each, Sysctl) and each.path.endswith("rp_filter"))
    assert setting.value == value
    assert PermittedSource(HOST, "oseth0", Network.parse(source)) in state.objects


def test_on_a_host_without_ipv6_nothing_of_it_is_wanted() -> None:
    container = container_with("eth0", vias=(("10.0.0.0/30",),))

    wanted = container.desired(Settings(), default_mtu=1500, has_ipv6=False)

    assert wanted.objects
    assert not [each for each in wanted.objects if isinstance(each, Sysctl) and each.path.startswith("ipv6/")]
    assert not [each for each in wanted.objects if isinstance(each, AssignedAddress) and each.address.version == 6]


def test_what_is_sent_to_a_container_from_beyond_is_routed_or_public_and_not_parked() -> None:
    container = container_with("eth0", vias=(("10.0.0.0/24", "fd00::/126"),))
    routed = {str(Network.from_packed(each)) for each in container.routed_networks()}
    assert routed == {"10.0.0.0/24"}  # a wide interconnecting network is public

    parked = container.with_parked([Network.parse("10.0.0.0/24")])
    assert list(parked.routed_networks()) == []
