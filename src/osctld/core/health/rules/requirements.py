"""What osctl needs: programs, confinement, the kernel, one installation."""

from __future__ import annotations

from collections.abc import Iterator

from osctld.core.config.confinement import NESTING_PROFILE, PARSER, PROFILE
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity
from osctld.core.health.programs import DECOMPRESSORS, PACKAGES

#: Where a package has the program, and where `./dev install` puts it.
INSTALLATIONS = ("/usr/lib/osctl", "/usr/local/lib/osctl")
#: What the original's client opens for `ct ls`, and for `ct show` of a container that is running.
LOADAVGS = "/var/lib/lxcfs/proc/.loadavgs"
#: From here on a link that is up can be renamed (net: allow live renaming when an interface is up, Linux 6.2).
_LIVE_RENAME = (6, 2)


def programs(facts: HealthFacts) -> Iterator[Finding]:
    for program in facts.missing_programs:
        if program == "busybox":
            severity, why = Severity.WARNING, "containers of the distribution busybox cannot be created"
        elif program in DECOMPRESSORS:
            severity, why = Severity.WARNING, f"containers cannot be created from archives compressed with {program}"
        else:
            severity, why = Severity.ERROR, "containers cannot be created, started or entered"
        yield Finding(
            severity,
            "program-missing",
            f"the program {program} is not installed",
            why,
            (_install(PACKAGES.get(program, program)),),
        )


def _install(package: str) -> str:
    return f"apt-get install --no-install-recommends {package}"


def apparmor(facts: HealthFacts) -> Iterator[Finding]:
    present = facts.apparmor
    if not present.is_on:
        return
    load = f"{PARSER} -r {present.file}"
    if not facts.requires_apparmor:
        yield Finding(
            Severity.NOTE,
            "not-confined",
            "confinement.apparmor is off in the settings",
            "the kernel has AppArmor, but containers run unconfined",
        )
    elif present.missing and not present.has_parser:
        yield Finding(
            Severity.ERROR,
            "not-confined",
            f"the AppArmor profile {present.missing[0]} is not loaded, and the program {PARSER} is not installed",
            "no container can start, because it would not be confined",
            (_install(PACKAGES[PARSER]), load),
        )
    elif present.missing:
        yield Finding(
            Severity.WARNING,
            "not-confined",
            f"the AppArmor profile {present.missing[0]} is not loaded",
            "the next start of a container has to load it first",
            (load,),
        )
    else:
        for profile in (PROFILE, NESTING_PROFILE):
            if present.modes[profile] == "complain":
                yield Finding(
                    Severity.WARNING,
                    "not-confined",
                    f"the AppArmor profile {profile} is in complain mode",
                    "violations are only logged",
                    (_install("apparmor-utils"), f"aa-enforce {profile}"),
                )


def original(facts: HealthFacts) -> Iterator[Finding]:
    if facts.serves_original and LOADAVGS not in facts.files:
        yield Finding(
            Severity.NOTE,
            "original-client",
            f"{LOADAVGS} does not exist",
            "the original osctl client is in use, whose ct ls fails without this file",
            (f"install -D /dev/null {LOADAVGS}",),
        )


def kernel(facts: HealthFacts) -> Iterator[Finding]:
    if facts.kernel < _LIVE_RENAME:
        yield Finding(
            Severity.NOTE,
            "old-kernel",
            f"the kernel is Linux {facts.kernel[0]}.{facts.kernel[1]}",
            "before Linux 6.2, renaming an interface of a running container takes it down for a moment",
        )


def installations(facts: HealthFacts) -> Iterator[Finding]:
    if facts.files.issuperset(INSTALLATIONS):
        yield Finding(
            Severity.WARNING,
            "two-installations",
            f"osctl is installed twice: by a package in {INSTALLATIONS[0]}, and by ./dev install in {INSTALLATIONS[1]}",
            "the latter is running, so that an upgrade of the package has no effect",
            ("./dev uninstall", "systemctl enable --now osctld"),
        )
