"""Lives of containers, from start to end, over reboots of guests, the daemon and the host.

engine      the port to what runs containers
lives       who lives, and on which engine
supervisor  joins a life with its network
boot        starts what is wanted, in order; `host_phase` knows when the host goes down
"""
