"""What a change of the configuration is called by those who listen: from two documents, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from osctld.core.events import Happening


def events_between(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    items: Mapping[str, Mapping[str, str]],
    pool: str,
    is_running: bool = False,
) -> Iterator[Happening]:
    """The events of a change of a container. None: it does not exist.

    `items` are, by type of interface, lists in its document that are reported item by item, and the event of an item.
    With `is_running`, a new interface is up at once, and a removed one goes down first.
    """
    some = after or before
    if some is None:
        return
    subject = {"pool": pool, "id": some["name"]}
    if before is None:
        yield "db", {"object": "container", **subject, "action": "add"}
    old = {each["uuid"]: each for each in (before or {}).get("interfaces", ())}
    new = {each["uuid"]: each for each in (after or {}).get("interfaces", ())}
    for uuid, interface in old.items():
        if uuid not in new:
            if is_running:
                yield "ct_netif", {"action": "down", **subject, "name": interface["name"]}
            yield "ct_netif", {"action": "remove", **subject, "name": interface["name"]}
    for uuid, interface in new.items():
        if uuid not in old:
            yield "ct_netif", {"action": "add", **subject, "name": interface["name"]}
            if is_running:
                yield "ct_netif", {"action": "up", **subject, "name": interface["name"], "veth": interface["link"]}
        yield from _interface_events(old.get(uuid, {}), interface, subject, items=items[interface["type"]])
    if after is None:
        yield "db", {"object": "container", **subject, "action": "remove"}
    elif before is not None:
        for field in ("wanted", "nesting"):
            if before.get(field, False) != after.get(field, False):
                yield f"ct_{field}", {**subject, field: after.get(field, False)}
        if before.get("guest_files", "write") != after.get("guest_files", "write"):
            yield "ct_guest_files", {**subject, "guest_files": after.get("guest_files", "write")}
        if before.get("autostart") != after.get("autostart"):
            how = after.get("autostart") or {"priority": None, "delay": None}
            yield "ct_autostart", {**subject, "autostart": after.get("autostart") is not None, **how}


def _interface_events(
    old: Mapping[str, Any], new: Mapping[str, Any], subject: Mapping[str, Any], *, items: Mapping[str, str]
) -> Iterator[Happening]:
    if old and old["name"] != new["name"]:
        yield "ct_netif", {"action": "rename", **subject, "name": old["name"], "new_name": new["name"]}
    named = {**subject, "name": new["name"]}
    for field, kind in items.items():
        had, has = _items(old.get(field, ())), _items(new.get(field, ()))
        for text in had:
            if text not in has:
                yield kind, {"action": "remove", **named, "addr": text}
        for text in has:
            if text not in had:
                yield kind, {"action": "add", **named, "addr": text}
        kept_before = [(text, had[text]) for text in had if text in has]
        kept_after = [(text, has[text]) for text in has if text in had]
        if kept_before != kept_after:
            yield "ct_netif", {"action": "set", **named, "changed": [field]}
    if old:
        rest = sorted({*old, *new} - {*items, "name"})
        changed = [field for field in rest if old.get(field) != new.get(field)]
        if changed:
            yield "ct_netif", {"action": "set", **named, "changed": changed}


def _items(values: Sequence[Any]) -> dict[str, Any]:
    """Addresses and sources are texts, routes have one in `network`."""
    return {each if isinstance(each, str) else each["network"]: each for each in values}
