"""Announcing: how the networks of containers become known beyond this host. Pure.

static_routes   which static routes a router needs, and what has changed since it was told
static          the words of routers for them, one file for each kind
"""
