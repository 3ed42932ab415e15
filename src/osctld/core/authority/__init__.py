"""Who owns an address: what is held and by whom, the rules of granting, and what the host itself uses.

claims         what each interface of each container holds
rules          what may be granted beside it: each rule a sentence
authority      the port to one that stands above this host, and this host as one
host_networks  what the host uses of the address space; `uplinks`, `null_routes`: the parts with rules of their own
blocks         what an operator blocks on purpose
ways           whether packets for containers go out by our links; `routing_rules`: what may send them elsewhere
surroundings   all of that as one value, for edits
who            who holds it, in words
"""
