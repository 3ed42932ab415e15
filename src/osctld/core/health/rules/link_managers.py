"""Whether programs that manage links leave those of containers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding, Severity
from osctld.core.plan.kernel_state import LINK_PREFIX

NETWORKD_FILE = "/etc/systemd/network/05-osctl.network"
NETWORK_MANAGER_FILE = "/etc/NetworkManager/conf.d/osctl.conf"


def networkd(facts: HealthFacts) -> Iterator[Finding]:
    if not facts.runs_networkd:
        return
    if NETWORKD_FILE not in facts.files:
        text = f"[Match]\\nName={LINK_PREFIX}*\\n\\n[Link]\\nUnmanaged=yes\\n"
        yield Finding(
            Severity.WARNING,
            "networkd",
            f"systemd-networkd is running, and {NETWORKD_FILE} is missing",
            "a .network file that matches any link would make it configure the links of containers",
            (f"printf '{text}' > {NETWORKD_FILE}", "networkctl reload"),
        )
    kept = {
        name: facts.settings_of_networkd.get(name, "yes").lower()
        for name in ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
    }
    if _is_true(kept.values()):
        directory = "/etc/systemd/networkd.conf.d"
        text = "[Network]\\n" + "".join(f"{name}=no\\n" for name in kept)
        yield Finding(
            Severity.WARNING,
            "networkd-routes",
            f"systemd-networkd is running with {' and '.join(f'{name}={value}' for name, value in kept.items())}",
            "when restarted, it removes routes and rules that it did not create, on the links that it manages",
            (
                f"mkdir -p {directory}",
                f"printf '{text}' > {directory}/osctl.conf",
                "systemctl restart systemd-networkd",
            ),
        )


def _is_true(values: Iterable[str]) -> bool:
    """As systemd reads booleans, see systemd.syntax(7)."""
    return any(each in ("1", "yes", "y", "true", "t", "on") for each in values)


def network_manager(facts: HealthFacts) -> Iterator[Finding]:
    if facts.runs_network_manager and not facts.files & {"/etc/udev/rules.d/70-osctl.rules", NETWORK_MANAGER_FILE}:
        text = f"[keyfile]\\nunmanaged-devices=interface-name:{LINK_PREFIX}*\\n"
        yield Finding(
            Severity.WARNING,
            "network-manager",
            "NetworkManager is running, and not configured to leave the links of containers alone",
            "it would configure them like links to a network",
            (f"printf '{text}' > {NETWORK_MANAGER_FILE}", "nmcli general reload"),
        )
