"""How routes and all else are sent: rtnetlink, nftables, sysctl, and the namespaces that they act in.

port              what the daemon asks of a kernel: look, apply, listen
plan_application  a plan, carried out over sockets of the two namespaces
rtnetlink         messages for each kind of object; `rtnetlink_dumps` reads them, `netlink` uses the socket
packet_filter_*   our tables of nftables, and the elements of their sets
host_*            the side of the host: settings, what is used of the address space
events            the kernel's notifications, and `netlink_listening`, which filters them
"""
