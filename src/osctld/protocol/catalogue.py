"""Every name that a program can ask for: the original's requests, and our own commands under theirs.

A command of ours is `ct_netif_ip_add`: its words joined by `_`. Some of these names are the original's too, with other
keys; which one is meant, the keys tell.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

import osctld.commands
from osctld.cli.catalogue import find_commands
from osctld.core.command import Command
from osctld.protocol import families
from osctld.protocol.request import Request


@functools.cache
def requests() -> Mapping[str, type[Request]]:
    """The original's requests by name."""
    return find_requests(families)


@functools.cache
def commands() -> Mapping[str, type[Command]]:
    """Our own commands by name."""
    return MappingProxyType({name_of(each): each for each in find_commands(osctld.commands)})


def name_of(command: type[Command]) -> str:
    return "_".join(command.words).replace("-", "_")


def find_requests(package: ModuleType) -> Mapping[str, type[Request]]:
    """Import every module of a package and return the requests in it, by name.

    Raises TypeError for one that is in the wrong file, or has the name of another.
    """
    found: dict[str, type[Request]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for each in vars(module).values():
            if not (isinstance(each, type) and issubclass(each, Request) and each.__module__ == module.__name__):
                continue
            if "words" not in vars(each):  # what others of the file have in common
                continue
            if each.words[0] != module_info.name or name_of(each) in found:
                raise TypeError(f"{module.__name__}.{each.__name__} is not where it belongs, or there twice")
            found[name_of(each)] = each
    return MappingProxyType(found)
