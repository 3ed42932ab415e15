"""How containers start, run commands and end: LXC, which keeps its monitor with the guest while daemons come and go.

engine       the port of `osctld.lifecycle.engine`, for LXC
start        namespaces, configuration, lxc-start; `end` is its other end, `adoption` finds what ran before us
attach       a command inside, at a terminal or not
monitor_socket  what lxc-start itself is asked
"""
