"""Announcing: how the networks of containers become known beyond this host. Pure.

announced       which routes are copied to the announcement table, for a routing daemon to read
bird            the file that BIRD includes, and what BIRD answers
static_routes   which static routes a router needs, and what has changed since it was told
static          the words of routers for them, one file for each kind
"""
