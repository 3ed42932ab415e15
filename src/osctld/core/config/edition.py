"""Editions: what versions of osctld want of a container that is configured in one way, where that is not the same.

A life is configured by the version that starts it, and may outlive that. What the next one wants differently is ours to
change, and no tenant's doing: so it has to be known what was wanted of each life.
"""

from __future__ import annotations

#: Of a running container without a note: earlier versions kept none.
FIRST = 1
#: The second edition, inside: the container end of a private interconnecting network is not chosen as a source beside a
#: routed address, metrics of IPv6 default routes begin at 16, and with several interfaces rp_filter is loose.
LATEST = 2
