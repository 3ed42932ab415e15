"""The words in which routers are told static routes: one file for each kind of router, found by its name.

What they have in common, and which there are: `osctld.announce.static.dialect`.
"""
