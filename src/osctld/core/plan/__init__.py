"""From what is wanted and what exists to what must be done: values of the kernel, and the plan between two of them.

kernel_state   links, addresses, routes, neighbours, settings, elements of sets
planner        the plan; `order` sorts it, `text` says it, `changes` is what it consists of
model          what a plan would make of a kernel, without one
packet_filter  our tables of nftables, as text
"""
