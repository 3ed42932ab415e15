"""The kernel's network state: observed as values, changed by plans. The only module that speaks to the kernel of it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from osctld.core import packet_filter
from osctld.core.kernel_state import (
    HOST,
    HostFacts,
    KernelObject,
    KernelState,
    Link,
    LinkScope,
    Namespace,
    Outcome,
    PacketFilter,
    SiblingLinks,
    Sysctl,
    Uplink,
    Veth,
)
from osctld.core.plan import Add, Change, Plan, Remove, Replace, Restore, subject_of
from osctld.shell import rtnetlink, sysctl
from osctld.shell.netlink import Answer, Message, NetlinkSocket
from osctld.shell.netns import open_namespace, open_netlink
from osctld.shell.nftables import Nftables

#: A removal that finds nothing has reached its aim.
_GONE = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)

#: Before a change is performed: an answer makes it fail with that. For tests of what happens then.
FaultHook = Callable[[int, Change], Answer | None]


class Kernel:
    """One kernel, seen from the network namespace in which this object was made: the host's.

    Containers' namespaces are given to each call as descriptors (of a namespace, or a pidfd), entered for
    the call and left with it. Calls do not overlap: one writer.
    """

    def __init__(self, *, fault: FaultHook | None = None) -> None:
        self._host = NetlinkSocket()
        self._nftables = Nftables()
        self._fault = fault

    def close(self) -> None:
        self._host.close()

    # --- observe --------------------------------------------------------------------------------------------------

    def host_facts(self, *, link_group: int, uplinks: Sequence[str] | None) -> HostFacts:
        """Look at the links that lead out, and at forwarding.

        Uplinks are those named; else those other than loopback and ours that carry a default route or, where none
        does, all that are up and have a global address.
        """
        links = {
            link.index: link
            for link in rtnetlink.dump_links(self._host)
            if not link.is_loopback and link.group != link_group
        }
        by_advertisement: set[int] = set()
        if uplinks is not None:
            chosen = [link for link in links.values() if link.name in uplinks]
        else:
            defaults = rtnetlink.default_routes(self._host, links)
            by_advertisement = {index for index, protocol in defaults if protocol == rtnetlink.RTPROT_RA}
            leading = {index for index, _ in defaults}
            if not leading:
                leading = {index for index in rtnetlink.links_with_global_address(self._host) if links.get(index)}
            chosen = [link for index, link in links.items() if index in leading and link.is_up]
        return HostFacts(
            uplinks=tuple(
                Uplink(
                    name=link.name,
                    mtu=link.mtu,
                    has_ipv4_forwarding=sysctl.read(f"ipv4/conf/{link.name}/forwarding") == "1",
                    has_default_route_from_advertisement=link.index in by_advertisement,
                    accept_ra=int(sysctl.read(f"ipv6/conf/{link.name}/accept_ra") or 0),
                )
                for link in sorted(chosen, key=lambda link: link.name)
            ),
            has_ipv6_forwarding=sysctl.read("ipv6/conf/all/forwarding") == "1",
        )

    def observe(
        self,
        scopes: Sequence[LinkScope],
        namespaces: Mapping[Namespace, int],
        *,
        sysctls: Iterable[str] = (),
        with_siblings: bool = False,
    ) -> KernelState:
        """All objects of these links: the links, and on them addresses, routes of the main table other than the
        kernel's own, permanent neighbours; the settings asked for; pairs of siblings, those of gone links included.

        A link that is not there is simply absent, and so is everything in a namespace that is gone.
        A host link that is no veth is a plain Link; of a veth whose peer is not in the namespaces given, the peer's
        name and MAC are empty.
        """
        objects: list[KernelObject] = []
        guest_links: dict[tuple[Namespace, str], rtnetlink.LinkFacts] = {}
        with contextlib.ExitStack() as stack:
            for namespace in dict.fromkeys(scope.namespace for scope in scopes if scope.namespace != HOST):
                inside = self._enter(namespace, namespaces, stack)
                if inside is None:
                    continue
                for scope in scopes:
                    if scope.namespace != namespace:
                        continue
                    link = rtnetlink.find_link(inside, scope.name)
                    if link is not None:
                        guest_links[namespace, scope.name] = link
                        objects.append(Link(namespace, link.name, link.mac, link.mtu, link.is_up))
                        objects.extend(rtnetlink.objects_on(inside, link, namespace))
        names = [scope.name for scope in scopes if scope.namespace == HOST]
        for name in names:
            link = rtnetlink.find_link(self._host, name)
            if link is not None:
                objects.append(_host_link(link, guest_links))
                objects.extend(rtnetlink.objects_on(self._host, link, HOST))
        objects.extend(_read_sysctls(sysctls))
        if with_siblings:
            # Pairs of links that are gone, which show as bare numbers, are nobody's and there to be cleared away.
            objects.extend(each for each in self._siblings() if each.link in names or each.link.isdigit())
        return KernelState(objects)

    def observe_links(self, *, link_group: int) -> KernelState:
        """The host's links of our group, and all pairs of siblings, those of links that are gone included."""
        links = [link for link in rtnetlink.dump_links(self._host) if link.group == link_group]
        return KernelState([*(_host_link(link, {}) for link in links), *self._siblings()])

    def observe_host_level(self, sysctls: Iterable[str]) -> KernelState:
        """The packet filter and these settings."""
        objects: list[KernelObject] = list(_read_sysctls(sysctls))
        for item in self._nftables.list(f"list table {packet_filter.TABLE}", terse=True) or ():
            found = packet_filter.read_mark(item.get("chain", {}).get("name", ""))
            if found is not None:
                objects.append(found)
        return KernelState(objects)

    def read_dropped(self) -> dict[str, dict[str, int]]:
        """Packets dropped per host link: by `spoofed` and `bounced`, as the sets of our table count them."""
        dropped: dict[str, dict[str, int]] = {}
        for name in ("spoofed", "bounced"):
            for element in self._elements(name):
                link, packets = element["elem"]["val"], element["elem"]["counter"]["packets"]
                dropped.setdefault(link, {})[name] = packets
        return dropped

    def _siblings(self) -> Iterator[SiblingLinks]:
        for element in self._elements("siblings"):
            link, sibling = element["concat"]
            # A link that is gone shows as its bare number.
            yield SiblingLinks(HOST, str(link), str(sibling))

    def _elements(self, name: str) -> Sequence[dict[str, Any]]:
        for item in self._nftables.list(f"list set {packet_filter.TABLE} {name}") or ():
            if "set" in item:
                elements: Sequence[dict[str, Any]] = item["set"].get("elem", ())
                return elements
        return ()

    def _enter(
        self, namespace: Namespace, namespaces: Mapping[Namespace, int], stack: contextlib.ExitStack
    ) -> NetlinkSocket | None:
        """A socket inside, closed with the stack; None when the namespace is not given or gone."""
        if namespace not in namespaces:
            return None
        try:
            return stack.enter_context(NetlinkSocket(open_netlink(namespaces[namespace])))
        except ProcessLookupError:
            return None

    # --- apply ----------------------------------------------------------------------------------------------------

    def apply(self, plan: Plan, namespaces: Mapping[Namespace, int]) -> tuple[Outcome, ...]:
        """Perform a plan: one outcome for each change, in order. What the kernel refuses is an outcome, no error.

        Consecutive changes of one namespace are one send. After a send with a failure nothing more is tried; later
        messages of that same send may have been performed, and their outcome says so.
        """
        with contextlib.ExitStack() as stack:
            application = _Application(self._host, self._nftables, namespaces, stack, self._fault)
            outcomes: list[Outcome] = []
            for segment in _segments(plan.changes):
                if any(outcome.error is not None for outcome in outcomes):
                    outcomes.extend(Outcome(was_tried=False) for _ in segment)
                    continue
                outcomes.extend(application.perform(segment, first=len(outcomes)))
        return tuple(outcomes)


class _Application:
    """One plan being performed: the sockets that are open for it, and the links that it has looked up."""

    def __init__(
        self,
        host: NetlinkSocket,
        nftables: Nftables,
        namespaces: Mapping[Namespace, int],
        stack: contextlib.ExitStack,
        fault: FaultHook | None,
    ) -> None:
        self._sockets: dict[Namespace, NetlinkSocket] = {HOST: host}
        self._nftables = nftables
        self._namespaces = namespaces
        self._stack = stack
        self._fault = fault
        self._indexes: dict[tuple[Namespace, str], int] = {}

    def perform(self, segment: Sequence[Change], *, first: int) -> list[Outcome]:
        if self._fault is None:
            return self._perform(segment)
        outcomes: list[Outcome] = []
        for number, change in enumerate(segment, start=first):
            refusal = self._fault(number, change)
            outcomes.extend([_outcome(change, refusal)] if refusal is not None else self._perform([change]))
        return outcomes

    def _perform(self, segment: Sequence[Change]) -> list[Outcome]:
        subject = subject_of(segment[0])
        match subject:
            case Sysctl():
                return [self._set(change) for change in segment]
            case SiblingLinks() | PacketFilter():
                return [self._filter(change) for change in segment]
            case _:
                return self._send(segment, subject.namespace)

    # --- rtnetlink

    def _send(self, segment: Sequence[Change], namespace: Namespace) -> list[Outcome]:
        try:
            through = self._socket(namespace)
            # Each change is one message or several, which succeed together or fail as one.
            encoded = [list(self._messages(change)) for change in segment]
        except (ProcessLookupError, _NoNamespace):
            gone = Answer(errno.ESRCH, "the container's network namespace is gone")
            return [_outcome(change, gone) for change in segment]
        answers = iter(through.send(list(itertools.chain.from_iterable(encoded))))
        outcomes = []
        for change, messages in zip(segment, encoded, strict=True):
            theirs = [next(answers) for _ in messages]
            if any(answer is None for answer in theirs):
                outcomes.append(self._look_again(change, through))
                continue
            failed = [answer for answer in theirs if answer is not None and _is_failure(change, answer)]
            outcomes.append(_outcome(change, failed[0]) if failed else Outcome())
            if failed and len(failed) < len(theirs):
                self._take_back(change, through)
        return outcomes

    def _take_back(self, change: Change, through: NetlinkSocket) -> None:
        """Of a change that takes several messages one failed: undo the others, so that it is done whole or not."""
        match change:
            case Replace(old, _):
                back: Change = Restore(old)
            case Add(new) | Restore(new):
                back = Remove(new)
            case Remove():
                return
        through.send(list(self._messages(back)))

    def _messages(self, change: Change) -> Iterator[Message]:
        namespace = subject_of(change).namespace
        if isinstance(change, Add | Restore) and isinstance(change.object, Veth):
            wanted = change.object
            peer = self._peer_namespace(wanted.peer_namespace)
            try:
                yield from rtnetlink.create_veth(
                    wanted, peer_namespace=peer, may_exist=isinstance(change, Restore)
                )
            finally:
                # The message names it by number and is sent before anything else runs; see the stack.
                self._stack.callback(os.close, peer)
            return

        def index(link: str) -> int:
            key = (namespace, link)
            if key not in self._indexes:
                found = rtnetlink.find_link(self._socket(namespace), link)
                # Index 0 is no link: the kernel then says "No such device" of that very message.
                self._indexes[key] = found.index if found is not None else 0
            return self._indexes[key]

        yield from rtnetlink.messages(change, index)

    def _peer_namespace(self, namespace: Namespace) -> int:
        if namespace not in self._namespaces:
            raise _NoNamespace(namespace)
        return open_namespace(self._namespaces[namespace])

    def _socket(self, namespace: Namespace) -> NetlinkSocket:
        if namespace not in self._sockets:
            if namespace not in self._namespaces:
                raise _NoNamespace(namespace)
            opened = NetlinkSocket(open_netlink(self._namespaces[namespace]))
            self._sockets[namespace] = self._stack.enter_context(opened)
        return self._sockets[namespace]

    def _look_again(self, change: Change, through: NetlinkSocket) -> Outcome:
        """The answer was lost: what is there now tells whether the change was made."""
        subject = subject_of(change)
        link = rtnetlink.find_link(through, subject.name if isinstance(subject, Veth | Link) else subject.link)  # type: ignore[union-attr]
        there = link is not None and subject in rtnetlink.objects_on(through, link, subject.namespace)
        if there != isinstance(change, Remove):
            return Outcome()
        return Outcome(error="the kernel's answer was lost, and the change is not there", errno=errno.ENOBUFS)

    # --- the others

    def _set(self, change: Change) -> Outcome:
        subject = subject_of(change)
        assert isinstance(subject, Sysctl)
        if isinstance(change, Remove):
            return Outcome()
        return _outcome(change, sysctl.write(subject.path, subject.value))

    def _filter(self, change: Change) -> Outcome:
        subject = subject_of(change)
        is_removal = isinstance(change, Remove)
        match subject:
            case SiblingLinks(_, link, sibling):
                verb = "delete" if is_removal else "add"
                pair = " . ".join(each if each.isdigit() else f'"{each}"' for each in (link, sibling))
                command = f"{verb} element {packet_filter.TABLE} siblings {{ {pair} }}"
            case PacketFilter():
                command = packet_filter.removal() if is_removal else packet_filter.script(subject)
            case _:
                raise TypeError(subject)
        refusal = self._nftables.run(command)
        if refusal is None or (is_removal and "No such file" in refusal):
            return Outcome()
        return Outcome(error=refusal, errno=errno.EINVAL)


class _NoNamespace(Exception):
    """A plan reaches into a container whose namespace was not given."""


def _segments(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Runs of changes that can be sent at once. Making a link stands alone: what follows needs its index."""
    for _, run in itertools.groupby(enumerate(changes), key=_segment_key):
        yield [change for _, change in run]


def _segment_key(numbered: tuple[int, Change]) -> tuple[str, Namespace, int]:
    number, change = numbered
    subject = subject_of(change)
    match subject:
        case Sysctl():
            return ("sysctl", subject.namespace, 0)
        case SiblingLinks() | PacketFilter():
            return ("nftables", subject.namespace, 0)
        case Veth() if not isinstance(change, Replace):
            return ("link", subject.namespace, number)
        case _:
            return ("rtnetlink", subject.namespace, 0)


def _is_failure(change: Change, answer: Answer) -> bool:
    if answer.errno == 0:
        return False
    return not (isinstance(change, Remove) and answer.errno in _GONE)


def _outcome(change: Change, answer: Answer) -> Outcome:
    if not _is_failure(change, answer):
        return Outcome()
    words = os.strerror(answer.errno)
    if answer.text and answer.text != words:
        words = f"{words}: {answer.text.rstrip('.')}"
    return Outcome(error=words, errno=answer.errno)


def _host_link(
    link: rtnetlink.LinkFacts, guest_links: Mapping[tuple[Namespace, str], rtnetlink.LinkFacts]
) -> KernelObject:
    if link.kind != "veth":
        return Link(HOST, link.name, link.mac, link.mtu, link.is_up)
    bare = Veth(
        namespace=HOST,
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        group=link.group,
        is_up=link.is_up,
        peer_namespace=Namespace(""),
        peer_name="",
        peer_mac="",
    )
    for (namespace, name), inside in guest_links.items():
        # The two indexes name each other; numbers alone may coincide between namespaces.
        if inside.index == link.peer_index and inside.peer_index == link.index:
            return msgspec.structs.replace(bare, peer_namespace=namespace, peer_name=name, peer_mac=inside.mac)
    return bare


def _read_sysctls(paths: Iterable[str]) -> Iterator[Sysctl]:
    for path in paths:
        value = sysctl.read(path)
        if value is not None:
            yield Sysctl(HOST, path, value, link=_link_of(path))


def _link_of(path: str) -> str:
    """The link in `ipv4/conf/LINK/forwarding`; empty for a setting of the namespace."""
    parts = path.split("/")
    return parts[2] if len(parts) == 4 and parts[2] not in ("all", "default") else ""
