"""By what a container is confined, what is said where it cannot be, and what `self check` finds of it."""

from __future__ import annotations

import pytest

from osctld.core.config.confinement import AppArmorFacts, apparmor_label, profile_of
from osctld.core.config.settings import Settings
from osctld.core.errors import Unavailable
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding
from osctld.core.health.findings import findings
from osctld.core.plan.kernel_state import HostFacts

FILE = "/etc/apparmor.d/lxc-osctl"
LOADED = {"lxc-osctl": "enforce", "lxc-osctl-nesting": "enforce", "/usr/bin/lxc-start": "enforce"}


def on(**present: object) -> AppArmorFacts:
    known: dict[str, object] = {"modes": LOADED, "has_parser": True, "has_namespaces": True, "file": FILE}
    return AppArmorFacts(True, **(known | present))  # type: ignore[arg-type]


def label(facts: AppArmorFacts, *, is_required: bool = True, has_nesting: bool = False) -> str | None:
    return apparmor_label(
        facts, container="web", is_required=is_required, has_nesting=has_nesting, namespace="lxc-osctl-1.web"
    )


def found(facts: AppArmorFacts, *, is_required: bool = True) -> list[Finding]:
    host = HostFacts(uplinks=(), has_ipv6_forwarding=True)
    seen = HealthFacts(host, (6, 12), 111, apparmor=facts, requires_apparmor=is_required)
    return [each for each in findings(seen) if each.code == "not-confined"]


def test_a_container_is_confined_by_our_profile_and_by_another_one_with_a_policy_of_its_own_with_nesting() -> None:
    assert label(on()) == "lxc-osctl"
    assert label(on(), has_nesting=True) == "lxc-osctl-nesting//&:lxc-osctl-1.web:unconfined"
    assert label(on(has_namespaces=False), has_nesting=True) == "lxc-osctl-nesting"
    assert label(on(has_parser=False)) == "lxc-osctl"  # what is loaded needs no parser


def test_where_the_kernel_has_no_apparmor_nothing_is_said_of_it() -> None:
    for is_required in (True, False):
        assert label(AppArmorFacts(False, has_parser=True), is_required=is_required) is None
        assert found(AppArmorFacts(False), is_required=is_required) == []


def test_a_container_that_would_not_be_confined_does_not_start_and_the_package_is_named() -> None:
    with pytest.raises(Unavailable) as without_parser:
        label(on(modes={}, has_parser=False))
    with pytest.raises(Unavailable) as without_profile:
        label(on(modes={"lxc-osctl": "enforce"}), has_nesting=True)

    assert without_parser.value.message == (
        "'web': would not be confined, the AppArmor profile lxc-osctl is not loaded; "
        f"install the package apparmor and run: apparmor_parser -r {FILE}"
    )
    assert without_profile.value.message.endswith(
        f"AppArmor profile lxc-osctl-nesting is not loaded; run: apparmor_parser -r {FILE}"
    )


def test_only_the_settings_let_a_container_run_unconfined() -> None:
    assert Settings().confinement.apparmor == "required"
    assert label(on(modes={}, has_parser=False), is_required=False) == "unconfined"
    (note,) = found(on(), is_required=False)
    assert (note.severity, note.what) == ("note", "confinement.apparmor is off in the settings")


def test_self_check_finds_what_stands_in_the_way_with_the_commands_that_mend_it() -> None:
    load = f"apparmor_parser -r {FILE}"

    assert found(on()) == []
    (missing,) = found(on(modes={}, has_parser=False))
    assert missing.severity == "error"
    assert missing.commands == ("apt-get install --no-install-recommends apparmor", load)
    (unloaded,) = found(on(modes={}))
    assert (unloaded.severity, unloaded.commands) == ("warning", (load,))
    (lax,) = found(on(modes=LOADED | {"lxc-osctl": "complain"}))
    assert (lax.severity, lax.commands[-1]) == ("warning", "aa-enforce lxc-osctl")


def test_a_label_is_known_by_our_profile_in_it() -> None:
    assert profile_of("lxc-osctl (enforce)\n") == "lxc-osctl"
    assert profile_of("lxc-osctl-nesting//&:lxc-osctl-1.web:unconfined (mixed)") == "lxc-osctl-nesting"
    assert profile_of("unconfined") == "unconfined"
    assert profile_of("") == ""
