"""One plan being performed: every change sent, every answer read, every outcome reported truthfully."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from osctld.core.errors import Unavailable
from osctld.core.plan.changes import (
    Add,
    Change,
    Changes,
    Remove,
    RenameLink,
    Replace,
    Restore,
    RouteChanges,
    count_of,
    is_made_in_place,
    subject_of,
)
from osctld.core.plan.kernel_model import pretend
from osctld.core.plan.kernel_state import (
    DONE,
    HOST,
    AssignedAddress,
    FilterElement,
    KernelObject,
    KernelState,
    Link,
    Master,
    Namespace,
    Neighbour,
    Outcome,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    SiblingLinks,
    StoppedNetwork,
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import Plan
from osctld.shell.kernel import packet_filter_table, rtnetlink, rtnetlink_dumps, sysctl
from osctld.shell.kernel.netlink import YES, Answer, NetlinkSocket
from osctld.shell.kernel.netns import inside, open_namespace, open_netlink
from osctld.shell.kernel.nftables import Nftables
from osctld.shell.kernel.packet_filter_elements import PacketFilterElements

#: A removal that finds nothing has reached its aim.
_GONE = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)

_NOT_TRIED = Outcome(was_tried=False)

#: Before a change is performed: an answer makes it fail with that. For tests of what happens then.
FaultHook = Callable[[int, Change], Answer | None]


class NoNamespace(Exception):
    """A plan reaches into a container whose namespace was not given."""


class PlanApplication:
    """The sockets that are open for one plan, and the links that it has looked up."""

    def __init__(
        self,
        plan: Plan,
        host: NetlinkSocket,
        nftables: Nftables,
        elements: PacketFilterElements,
        namespaces: Mapping[Namespace, int],
        stack: contextlib.ExitStack,
        fault: FaultHook | None,
        filling: Sequence[FilterElement] = (),
    ) -> None:
        """What is opened is closed with the stack."""
        self._plan = plan
        self._sockets: dict[Namespace, NetlinkSocket] = {HOST: host}
        self._nftables = nftables
        self._elements = elements
        self._namespaces = namespaces
        self._stack = stack
        self._fault = fault
        self._filling = filling
        self._done: list[Changes] = []
        self._indexes: dict[tuple[Namespace, str], int] = {}

    def perform(self) -> tuple[Outcome, ...]:
        """One outcome for each change of the plan, in order."""
        outcomes: list[Outcome] = []
        for segment in _segments(self._plan.changes):
            made = self._perform_segment(segment, first=len(outcomes))
            outcomes.extend(made)
            if len(made) < len(segment) or not _all_done(made):
                break
            self._done.append(segment)
        outcomes.extend([_NOT_TRIED] * (len(self._plan.changes) - len(outcomes)))
        return tuple(outcomes)

    def _perform_segment(self, segment: Changes, *, first: int) -> list[Outcome]:
        """Outcomes of the changes that were tried; after a failure there may be fewer than changes."""
        if self._fault is None:
            return self._perform(segment)
        outcomes: list[Outcome] = []
        for number, change in enumerate(segment, start=first):
            refusal = self._fault(number, change)
            outcomes.extend([_outcome(change, refusal)] if refusal is not None else self._perform(Changes([change])))
        return outcomes

    def _perform(self, segment: Changes) -> list[Outcome]:
        change, subject = segment[0], subject_of(segment[0])
        try:
            match subject:
                case Sysctl():
                    return self._set(segment)
                case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork():
                    return self._change_elements(segment)
                case PacketFilter():
                    return self._filter(segment)
                case Veth() if isinstance(change, Add | Restore):
                    return [self._make_pair(change, subject)]
                case AssignedAddress() if isinstance(change, Replace) and not is_made_in_place(change):
                    assert isinstance(change.old, AssignedAddress)
                    return [self._replace_address(change, change.old)]
                case _:
                    return self._send(segment, subject.namespace)
        except (ProcessLookupError, NoNamespace):
            gone = Answer(errno.ESRCH, "the container's network namespace is gone")
        except Unavailable as unavailable:
            return [Outcome(error=unavailable.message, errno=errno.EIO) for _ in segment]
        except OSError as error:
            gone = Answer(error.errno or errno.EIO, str(error.strerror or error))
        return [_outcome(each, gone) for each in segment]

    # --- rtnetlink ------------------------------------------------------------------------------------------------

    def _send(self, segment: Changes, namespace: Namespace) -> list[Outcome]:
        """Changes of one message each. Nothing more is sent after a batch with a failure in it."""
        through = self._socket(namespace)
        outcomes: list[Outcome] = []
        for batch in _batches(segment, through.batch):
            made = self._send_batch(batch, through, namespace)
            change = batch[0]
            if isinstance(change, RenameLink) or (isinstance(change, Remove) and isinstance(change.object, Veth)):
                self._forget_links()  # such a change stands alone
            outcomes.extend(made)
            if not _all_done(made):
                break
        return outcomes

    def _send_batch(self, batch: Changes, through: NetlinkSocket, namespace: Namespace) -> list[Outcome]:
        first = through.reserve(len(batch))
        messages, made = self._encode(batch, first, namespace)
        answers = through.send(messages, first=first, count=len(made)) if messages else {}
        lost = []
        for position, answer in answers.items():
            if position >= len(made) or made[position] is not DONE:
                continue
            if answer is None:
                lost.append(position)
            else:
                made[position] = _outcome(batch[position], answer)
        if lost:
            for position, outcome in self._look_again(batch, lost, through).items():
                made[position] = outcome
        return made

    def _encode(self, batch: Changes, first: int, namespace: Namespace) -> tuple[list[bytes], list[Outcome]]:
        """Messages up to the first change that fails for lack of its link; and outcomes, as if all were accepted."""
        encode = self._encoder(namespace).encode
        messages: list[bytes] = []
        made: list[Outcome] = []
        for part in batch.parts:
            try:
                messages.append(encode(part, first + len(made)))
            except rtnetlink.NoSuchLink as missing:
                refused = _outcome(batch[len(made)], _answer_to(missing))
                if refused is not DONE:
                    return messages, [*made, refused]
            made.extend([DONE] * count_of(part))
        return messages, made

    def _send_one(self, message: bytes, sequence: int, through: NetlinkSocket) -> Answer | None:
        return through.send([message], first=sequence, count=1).get(0, YES)

    def _make_pair(self, change: Add | Restore, wanted: Veth) -> Outcome:
        through = self._socket(wanted.namespace)
        self._forget_links()
        peer = self._peer_namespace(wanted.peer_namespace)
        try:
            master = self._master(wanted.namespace, wanted.master) if wanted.master is not None else 0
            there = rtnetlink_dumps.find_link(through, wanted.name) if isinstance(change, Restore) else None
            sequence = through.reserve(1)
            if there is not None:
                number = rtnetlink_dumps.namespace_id(through, peer)
                if there.kind != "veth" or number is None or there.peer_namespace_id != number:
                    return _outcome(change, Answer(errno.EEXIST, "a link of that name with another peer"))
                message = rtnetlink.set_link(wanted, None, sequence, master=master)
                answer = self._send_one(message, sequence, through)
                return _outcome(change, answer or Answer(errno.ENOBUFS))
            message = rtnetlink.create_veth(wanted, sequence, peer_namespace=peer, master=master)
            answer = self._send_one(message, sequence, through)
        except rtnetlink.NoSuchLink as missing:
            return _outcome(change, _answer_to(missing))
        finally:
            os.close(peer)
        if answer is None:
            made = rtnetlink_dumps.find_link(through, wanted.name)
            what = ("veth", wanted.mac, wanted.group, master)
            is_made = made is not None and (made.kind, made.mac, made.group, made.master_index) == what
            answer = YES if is_made else Answer(errno.ENOBUFS)
        return _outcome(change, answer)

    def _replace_address(self, change: Replace, old: AssignedAddress) -> Outcome:
        """Delete, then add: the kernel changes neither broadcast, scope nor IPv6 prefix length of an address in place.

        When the second step fails, what the first one took away is put back.
        """
        through = self._socket(old.namespace)
        encode = self._encoder(old.namespace).encode
        for step in (Remove(old), Add(change.new)):
            sequence = through.reserve(1)
            try:
                answer = self._send_one(encode(step, sequence), sequence, through)
            except rtnetlink.NoSuchLink as missing:
                answer = _answer_to(missing)
            outcome = _outcome(step, answer) if answer is not None else self._look_again([step], [0], through)[0]
            if outcome.error is not None:
                if isinstance(step, Add):
                    self._put_back(old)
                return outcome
        return DONE

    def _put_back(self, old: AssignedAddress) -> None:
        """What our model says that the removal of an address took along, and the address."""
        done = itertools.chain.from_iterable(self._done)
        before = pretend(KernelState([*self._plan.foreign.objects, *self._plan.have.objects]), done)
        for segment in _segments(Plan(before, before, (Remove(old),)).undo().changes):
            self._perform(segment)

    def _look_again(
        self, batch: Sequence[Change], positions: Sequence[int], through: NetlinkSocket
    ) -> Mapping[int, Outcome]:
        """The answers were lost: the present state shows whether the changes were made.

        Of several changes of one object only the last one shows; those before it are taken for what it is.
        """
        observed: dict[str, tuple[rtnetlink_dumps.LinkFacts | None, KernelState]] = {}
        last = {subject_of(change).key: change for change in batch}
        outcomes = {}
        for position in positions:
            change = last[subject_of(batch[position]).key]
            subject = subject_of(change)
            name = _link_of(subject)
            if name not in observed:
                link = rtnetlink_dumps.find_link(through, name)
                on_link = rtnetlink_dumps.objects_on(through, [link], subject.namespace) if link else ()
                observed[name] = (link, KernelState(on_link))
            link, there = observed[name]
            if isinstance(subject, Veth | Link):
                is_there = link is not None and (isinstance(change, Remove) or self._is_as(link, subject, change))
            else:
                is_there = there.get(subject.key) == subject
            if is_there != isinstance(change, Remove):
                outcomes[position] = DONE
            else:
                error = "the kernel's answer was lost, and the change was not made"
                outcomes[position] = Outcome(error=error, errno=errno.ENOBUFS)
        return outcomes

    def _is_as(self, link: rtnetlink_dumps.LinkFacts, wanted: Veth | Link, change: Change) -> bool:
        """Whether a link is as a change was to make it."""
        if (link.mac, link.mtu, link.is_up) != (wanted.mac, wanted.mtu, wanted.is_up):
            return False
        if isinstance(wanted, Link):
            return True
        is_moved = isinstance(change, Replace) and isinstance(change.old, Veth) and change.old.master != wanted.master
        if is_moved:
            try:
                master = self._master(wanted.namespace, wanted.master) if wanted.master is not None else 0
            except rtnetlink.NoSuchLink:
                return False
            if link.master_index != master:
                return False
        return link.group == wanted.group

    # --- links and namespaces -------------------------------------------------------------------------------------

    def _encoder(self, namespace: Namespace) -> rtnetlink.Encoder:
        return rtnetlink.Encoder(
            lambda name: self._index(namespace, name), lambda master: self._master(namespace, master)
        )

    def _master(self, namespace: Namespace, wanted: Master) -> int:
        """The number of a link that is to get ports. Raises NoSuchLink, also for one of another kind: with that the
        kernel would do what it can."""
        found = rtnetlink_dumps.find_link(self._socket(namespace), wanted.name)
        if found is None or found.kind != wanted.kind:
            raise rtnetlink.NoSuchLink(wanted.name, is_of_another_kind=found is not None)
        return found.index

    def _index(self, namespace: Namespace, name: str) -> int:
        key = (namespace, name)
        if key not in self._indexes:
            found = rtnetlink_dumps.find_link(self._socket(namespace), name)
            if found is None:
                raise rtnetlink.NoSuchLink(name)
            self._indexes[key] = found.index
        return self._indexes[key]

    def _forget_links(self) -> None:
        """Pairs come and go in this plan: a name may stand for another number now, at either end."""
        self._indexes.clear()

    def _peer_namespace(self, namespace: Namespace) -> int:
        if namespace not in self._namespaces:
            raise NoNamespace(namespace)
        return open_namespace(self._namespaces[namespace])

    def _socket(self, namespace: Namespace) -> NetlinkSocket:
        if namespace not in self._sockets:
            if namespace not in self._namespaces:
                raise NoNamespace(namespace)
            opened = NetlinkSocket(open_netlink(self._namespaces[namespace]))
            self._sockets[namespace] = self._stack.enter_context(opened)
        return self._sockets[namespace]

    # --- the others -----------------------------------------------------------------------------------------------

    def _set(self, segment: Sequence[Change]) -> list[Outcome]:
        namespace = subject_of(segment[0]).namespace
        if namespace == HOST:
            return list(_write_all(segment))
        if namespace not in self._namespaces:
            raise NoNamespace(namespace)
        return inside(self._namespaces[namespace], lambda: list(_write_all(segment)))

    def _filter(self, segment: Sequence[Change]) -> list[Outcome]:
        """The table itself, each change a transaction, with the elements that it holds from then on."""
        _check_is_host(segment)
        outcomes = []
        for change in segment:
            filling = (each for each in self._filling if self._elements.are_links_there(each))
            elements = dict.fromkeys((*self._elements.dump(), *filling))
            refusal = self._nftables.run(packet_filter_table.command(change, elements))
            if refusal is not None:
                outcomes.append(Outcome(error=refusal, errno=errno.EINVAL))
                break
            outcomes.append(DONE)
        return outcomes

    def _change_elements(self, segment: Sequence[Change]) -> list[Outcome]:
        """One transaction, all or nothing. Of one that is refused, each change alone, to know which it was."""
        _check_is_host(segment)
        if all(answer.errno == 0 for answer in self._elements.perform(segment)):
            return [DONE] * len(segment)
        outcomes = []
        for change in segment:
            outcomes.append(_outcome(change, self._elements.perform([change])[0]))
            if outcomes[-1].error is not None:
                break
        return outcomes


def _check_is_host(segment: Sequence[Change]) -> None:
    """Raise NoNamespace for a guest's packet filter: there is none of ours."""
    if subject_of(segment[0]).namespace != HOST:
        raise NoNamespace(subject_of(segment[0]).namespace)


def _write_all(segment: Sequence[Change]) -> Iterator[Outcome]:
    """Settings, in order, up to the first that fails. One cannot be removed, only set."""
    for change in segment:
        subject = subject_of(change)
        assert isinstance(subject, Sysctl)
        outcome = DONE if isinstance(change, Remove) else _outcome(change, sysctl.write(subject.path, subject.value))
        yield outcome
        if outcome.error is not None:
            return


# --- segments ----------------------------------------------------------------------------------------------------

_RTNETLINK, _SYSCTL, _NFTABLES, _ELEMENTS = range(4)
_EXECUTORS: Mapping[type[KernelObject], int] = {
    Veth: _RTNETLINK,
    Link: _RTNETLINK,
    AssignedAddress: _RTNETLINK,
    Route: _RTNETLINK,
    Neighbour: _RTNETLINK,
    Sysctl: _SYSCTL,
    SiblingLinks: _ELEMENTS,
    PrivateNetwork: _ELEMENTS,
    PermittedSource: _ELEMENTS,
    StoppedNetwork: _ELEMENTS,
    PacketFilter: _NFTABLES,
}


def _segments(changes: Sequence[Change]) -> Iterator[Changes]:
    """Runs of changes that can be sent at once. What takes several steps stands alone."""
    run: list[Change | RouteChanges] = []
    place_before: tuple[int, Namespace] | None = None
    for part in Changes.of(changes).parts:
        place = _place_of(part)
        if run and (place is None or place != place_before):
            yield Changes(run)
            run = []
        run.append(part)
        place_before = place
    if run:
        yield Changes(run)


def _place_of(part: Change | RouteChanges) -> tuple[int, Namespace] | None:
    """By whom a change is made, and where; None for one that takes several steps."""
    if isinstance(part, RouteChanges):
        return _RTNETLINK, part.routes.way.namespace
    subject, is_replacement = subject_of(part), isinstance(part, Replace)
    takes_steps = (isinstance(subject, AssignedAddress) and is_replacement and not is_made_in_place(part)) or (
        isinstance(subject, Veth) and not is_replacement
    )
    if takes_steps or isinstance(part, RenameLink):
        return None
    return _EXECUTORS[type(subject)], subject.namespace


def _batches(segment: Changes, size: int) -> Iterator[Changes]:
    """The changes in order, this many at a time."""
    batch: list[Change | RouteChanges] = []
    room = size
    for part in segment.parts:
        rest = part
        while isinstance(rest, RouteChanges) and len(rest) > room:
            yield Changes([*batch, rest[:room]] if room else batch)
            rest, batch, room = rest[room:], [], size
        if not room:
            yield Changes(batch)
            batch, room = [], size
        batch.append(rest)
        room -= count_of(rest)
    if batch:
        yield Changes(batch)


def _all_done(outcomes: list[Outcome]) -> bool:
    return outcomes.count(DONE) == len(outcomes)


def _answer_to(missing: rtnetlink.NoSuchLink) -> Answer:
    if missing.is_of_another_kind:
        return Answer(errno.EOPNOTSUPP, f"{missing.name!r} is a link of another kind")
    return Answer(errno.ENODEV, f"no link {missing.name!r}")


def _outcome(change: Change, answer: Answer) -> Outcome:
    if answer.errno == 0 or (isinstance(change, Remove) and answer.errno in _GONE):
        return DONE
    words = os.strerror(answer.errno)
    if answer.text and answer.text != words:
        words = f"{words}: {answer.text.rstrip('.')}"
    return Outcome(error=words, errno=answer.errno)


def _link_of(subject: KernelObject) -> str:
    match subject:
        case Veth() | Link():
            return subject.name
        case AssignedAddress() | Route() | Neighbour():
            return subject.link
        case _:
            raise TypeError(subject)
