"""Pairs of states that a kernel is brought from and to: a container of two interfaces before and after edits."""

from __future__ import annotations

import hypothesis.strategies as st

from pure.edited_states import desired, edits, with_same_settings
from pure.generated import containers, rearranged_containers

rearrangements = rearranged_containers().map(lambda pair: (desired(pair[0]), desired(pair[1])))

pairs = st.one_of(
    edits(interfaces=2),
    edits(interfaces=2),
    rearrangements,
    st.tuples(containers(interfaces=2).map(desired), containers(interfaces=2).map(desired)),
).map(lambda pair: with_same_settings(*pair))
