"""Documents and rows: what is written is read again, and can be read by people."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osctld.config import HoldingRows, decode_container, encode_container, holding_rows
from osctld.core.address.addresses import Address, InterfaceAddress
from osctld.core.authority.held import HoldingState
from osctld.core.config.host import Container
from osctld.core.errors import Refused
from osctld.netif.routed.interface import RoutedInterface
from pure.generated import container_without_interfaces, containers, each_claim, interface
from pure.interface_steps import with_address


@given(containers())
def test_a_container_is_read_as_it_was_written(container: Container) -> None:
    again = decode_container(encode_container(container))

    assert again == container
    assert encode_container(again) == encode_container(container)


@given(containers())
def test_a_document_says_addresses_and_networks_as_people_write_them(container: Container) -> None:
    document = json.loads(encode_container(container))

    assert document["name"] == container.name
    for written, each in zip(document["interfaces"], container.interfaces, strict=True):
        assert isinstance(each, RoutedInterface)
        assert written["type"] == "routed"
        assert written.get("addresses", []) == [str(address) for address in each.addresses]
        routes = [route["network"] for route in written.get("routes", [])]
        assert routes == [str(route.network) for route in each.routes]
        assert written.get("sources", []) == [str(source) for source in each.sources]
        assert {via["network"]: (via["host"], via["container"]) for via in written["vias"]} == {
            str(via.network): (str(via.host_end), str(via.container_end)) for via in each.vias.values()
        }


def test_the_document_of_the_page_s_example_is_plain_text() -> None:
    one = with_address(interface(), InterfaceAddress.parse("1.2.3.4/32"))
    document = json.loads(encode_container(container_without_interfaces().with_new_interface(one)))

    assert document == {
        "name": "web01",
        "uuid": container_without_interfaces().uuid,
        "user": None,
        "id_offset": 1879048192,
        "id_size": 65536,
        "distribution": "busybox",
        "version": "stable",
        "interfaces": [
            {
                "type": "routed",
                "uuid": one.uuid,
                "name": "eth0",
                "link": "osweb01-eth0",
                "mac": one.mac,
                "host_mac": one.host_mac,
                "vias": [
                    {
                        "network": "10.100.10.100/30",
                        "host": "10.100.10.101",
                        "container": "10.100.10.102",
                        "public": False,
                    }
                ],
                "addresses": ["1.2.3.4/32"],
                "routes": [{"network": "1.2.3.4/32", "automatic": True}],
            }
        ],
        "serial": 1,
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"1.2.3.4/32"', b'"1.2.3.4.5"'), (b'"routed"', b'"bridged"'), (b'"uuid"', b'"uid"'), (b"}", b"")],
)
def test_a_document_that_is_not_ours_is_not_read(old: bytes, new: bytes) -> None:
    one = with_address(interface(), InterfaceAddress.parse("1.2.3.4/32"))
    document = encode_container(container_without_interfaces().with_new_interface(one))

    with pytest.raises((msgspec.DecodeError, Refused)):
        decode_container(document.replace(old, new))


def many_addresses(rows: HoldingRows) -> list[bytes]:
    octets = {4: 4, 6: 16}[rows.version]
    return [rows.networks[at : at + octets] for at in range(0, len(rows.networks), octets)]


@given(containers())
def test_every_claim_is_a_row_of_its_own(container: Container) -> None:
    claims = each_claim(container.claims())
    rows = holding_rows(container.claims())
    read = [
        (
            *(Address.from_packed(address).with_length(row.length).network, row.kind),
            *(row.holder.container, row.holder.interface),
        )
        for row in rows
        for address in many_addresses(row)
    ]

    assert sorted(read) == sorted(
        (each.network, each.kind.value, each.holder.container, each.holder.interface) for each in claims
    )
    assert len(set(read)) == len(read)
    assert {(row.epoch, row.state) for row in rows} <= {(0, "wanted")}


@given(containers(), st.data())
def test_rows_tell_what_is_set_aside(container: Container, data: st.DataObject) -> None:
    networks = sorted({each.network for each in each_claim(container.claims())})
    states = data.draw(
        st.dictionaries(st.sampled_from(networks), st.sampled_from(HoldingState)) if networks else st.just({})
    )
    rows = holding_rows(container.claims(), states, epoch=7)

    told = {
        (Address.from_packed(address).with_length(row.length).network, row.kind): (row.state, row.epoch)
        for row in rows
        for address in many_addresses(row)
    }

    assert told == {
        (each.network, each.kind.value): (states.get(each.network, HoldingState.WANTED).value, 7)
        for each in each_claim(container.claims())
    }
