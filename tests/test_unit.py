"""The service unit: as hard as guests allow, with everything that the daemon needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from osctld.shell.health.preflight import NEEDED_CAPABILITIES

UNIT = Path(__file__).parent.parent / "packaging/osctld.service"
TEXT = UNIT.read_text()

#: What systemd does by seccomp filters, or by a bit that cannot be taken back: guests would have it too.
INHERITED = {
    *("NoNewPrivileges", "SystemCallFilter", "SystemCallArchitectures", "SystemCallLog", "RestrictAddressFamilies"),
    *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute"),
    *("ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "PrivateDevices"),
    *("UMask", "LimitNOFILE", "Nice", "CPUSchedulingPolicy", "IOSchedulingClass", "SecureBits", "Personality"),
}
#: What covers parts of /proc or /sys, after which no guest may mount its own.
COVERING = {"ProtectKernelTunables", "ProtectProc", "ProcSubset", "ProtectControlGroups", "InaccessiblePaths"}
#: What systemd-analyze counts against the unit.
LEFT_AWAY = (
    *("NoNewPrivileges", "SystemCallFilter", "ProtectKernelTunables", "ProtectControlGroups", "PrivateTmp"),
    *("PrivateNetwork", "PrivateUsers", "User", "PrivateDevices", "RestrictNamespaces", "ProtectClock", "UMask"),
    *("RootDirectory", "ProtectProc", "ProcSubset", "LockPersonality", "MemoryDenyWriteExecute"),
)


def settings() -> list[tuple[str, str]]:
    return re.findall(r"^([A-Za-z]+)=(.*)$", TEXT, re.MULTILINE)


def test_a_daemon_that_fails_or_hangs_is_started_again() -> None:
    found = dict(settings())

    assert found["Restart"] == "on-failure"
    assert found["WatchdogSec"] == "3min"


def test_a_start_beside_all_else_that_a_host_starts_is_not_killed() -> None:
    assert dict(settings())["TimeoutStartSec"] == "10min"


def test_it_comes_after_what_loads_profiles_and_the_hosts_packet_filter() -> None:
    """Neither is required: without them it loads its own profiles, and makes its own tables."""
    found = {word for key, value in settings() if key == "After" for word in value.split()}

    assert {"apparmor.service", "nftables.service", "local-fs.target"} <= found
    assert not any("apparmor" in value or "nftables" in value for key, value in settings() if key != "After")


def test_nothing_is_set_that_guests_would_inherit() -> None:
    found = {key for key, _ in settings()}

    assert len(found) >= 15
    assert not found & (INHERITED | COVERING)


def test_what_is_left_away_is_explained_where_it_would_stand() -> None:
    """Each point that is not set stands in a comment with its reason."""
    commented = "\n".join(line for line in TEXT.splitlines() if line.startswith("#"))

    for key in LEFT_AWAY:
        assert f"{key}=" in commented, key


def test_the_unit_leaves_the_capabilities_that_the_daemon_asks_for() -> None:
    left = {word for key, value in settings() if key == "CapabilityBoundingSet" for word in value.split()}

    assert left >= set(NEEDED_CAPABILITIES)
    assert not left & {"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_BPF", "CAP_SYSLOG"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_exposure_does_not_grow() -> None:
    """systemd's own figure, 9.6 for a unit without any of this."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=82", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    exposure = re.search(r"Overall exposure level for osctld.service: ([\d.]+)", done.stdout)
    assert exposure is not None, done
    assert float(exposure[1]) <= 8.2
    assert done.returncode == 0
