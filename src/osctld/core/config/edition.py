"""Editions: what versions of osctld want of a container that is configured in one way, where that is not the same.

A life is configured by the version that starts it, and may outlive that. What the next one wants differently is ours to
change, and no tenant's doing: so it has to be known what was wanted of each life.
"""

from __future__ import annotations

#: Of a life of which nobody knows it: versions that kept no note of it.
FIRST = 1
#: With the second one, inside: the container end of a private interconnecting network is no source beside a routed
#: address, IPv6 default routes begin with metric 16, and with several interfaces rp_filter is loose.
LATEST = 2
