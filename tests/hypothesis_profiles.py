"""How hypothesis looks for what is wrong: HYPOTHESIS_PROFILE says quick, thorough or ci."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import hypothesis.configuration

hypothesis.configuration.set_hypothesis_home_dir(Path(__file__).parent.parent / ".cache" / "hypothesis")
# No deadline for one example: what else the machine does is no property of the program.
hypothesis.settings.register_profile(
    "quick", deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# Explores: ten times as many, new ones each time. What it finds becomes a test by name.
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("quick"), max_examples=600)
# Continuous integration gives one answer for one commit.
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("quick"), derandomize=True)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick")
hypothesis.settings.load_profile(PROFILE)
