"""What surrounds an edit of a test."""

from __future__ import annotations

from collections.abc import Collection

from osctld.core.authority.authority import Asking, check
from osctld.core.authority.claims import Claims, ClaimsChange
from osctld.core.authority.host_networks import HostNetwork, HostSpace
from osctld.core.command import EditCommand, Edited
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings


def claims_of(host: Host) -> Claims:
    return Claims(claim for each in host.containers.values() for claim in each.claims())


def surroundings_of(host: Host, *networks: HostNetwork) -> Surroundings:
    """Who holds what as the configuration says, and these networks in use on the host."""
    return Surroundings(claims_of(host), HostSpace(networks))


def edited(command: EditCommand, host: Host, *networks: HostNetwork) -> Edited:
    """What a command makes of a host that uses these networks itself."""
    return command.edit(host, surroundings_of(host, *networks))


def check_claims(edited: Edited, host: Host, *networks: HostNetwork, declared: Collection[str] = ()) -> None:
    """Ask the authority for what an edit claims anew, as the daemon does. Raises Conflict."""
    before, after = host.containers.get(edited.container), edited.host.container(edited.container)
    change = ClaimsChange.between(before.claims() if before else (), after.claims())
    check(
        Asking(
            change,
            declared=declared,
            delegates=edited.is_delegation_allowed,
            overlaps_host=edited.is_overlap_allowed,
        ),
        holdings=claims_of(host),
        space=HostSpace(networks),
    )
