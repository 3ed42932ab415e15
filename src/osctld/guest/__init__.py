"""The files of the network tools inside guests: facts in, files out.

A tool that finds nothing of its own about an interface, or something else, may take away what the host has configured.
Each file in `stacks/` knows one tool: what says that it is there, and which files make it agree with the host.
"""
