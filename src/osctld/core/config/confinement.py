"""By which AppArmor profile a container is confined, and what is missing where it cannot be.

Where the kernel has AppArmor, a container runs confined or not at all, unless the settings say otherwise.
"""

from __future__ import annotations

import msgspec

from osctld.core.errors import Unavailable

#: The profiles in src/osctld/shell/lxc/lxc-osctl: of every container, and of one that may run nested containers.
PROFILE = "lxc-osctl"
NESTING_PROFILE = "lxc-osctl-nesting"

#: The program that loads profiles, and the one package that it comes in.
PARSER = "apparmor_parser"


class AppArmorFacts(msgspec.Struct, frozen=True):
    """What this host has of AppArmor: `modes` of the profiles that are loaded, `file` with ours.

    `has_namespaces`: a container can have a policy of its own beside ours.
    """

    is_on: bool
    modes: dict[str, str] = {}
    has_parser: bool = False
    has_namespaces: bool = False
    file: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Our profiles that are not loaded."""
        return tuple(each for each in (PROFILE, NESTING_PROFILE) if each not in self.modes)


def apparmor_label(
    facts: AppArmorFacts, *, container: str, is_required: bool, has_nesting: bool, namespace: str
) -> str | None:
    """Return the label by which LXC confines a container; None if the kernel has no AppArmor.

    With nesting the guest has a policy of its own in `namespace`, beside our profile. Raises Unavailable when a profile
    that is required is not loaded.
    """
    if not facts.is_on:
        return None
    if not is_required:
        return "unconfined"
    profile = NESTING_PROFILE if has_nesting else PROFILE
    if profile not in facts.modes:
        raise Unavailable(
            f"{container!r}: would not be confined, the AppArmor profile {profile} is not loaded; "
            + ("run: " if facts.has_parser else "install the package apparmor and run: ")
            + f"{PARSER} -r {facts.file}",
            code="not-confined",
            subject=container,
        )
    if has_nesting and facts.has_namespaces:
        return f"{profile}//&:{namespace}:unconfined"
    return profile


def profile_of(label: str) -> str:
    """Our profile in a label; if it has none, the label itself."""
    return label.partition("//&")[0].partition(" (")[0].strip("\0\n ")
