"""From a request to its answer.

perform   edit, claim, plan, apply, save, answer; read this first
actions   what is done rather than wanted: start, stop, exec, check; `net_actions` those of the host's networks
effects   what an edit changes in the world: values with text, apply and undo; `kernel_effects` are those of kernels
records   what is kept, and how a change is saved; `event_log` tells it to those who follow
"""
