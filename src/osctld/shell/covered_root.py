"""A root that another one covers: left behind, so that no guest's mount namespace holds it.

systemd before 253 gives a unit with mounts of its own a root by moving that over the old one, and what is covered
stays: a second tree of all that the host has mounted. Each mount namespace that is made of such a one has it too, a
guest's as well. Nobody gets there, but the kernel counts it: a whole /proc below makes it allow a user namespace
inside the guest a /proc of its own (mount_too_revealing in linux/fs/namespace.c), which none would get otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

from osctld.core.errors import Unavailable
from osctld.shell.rootfs.idmapped_mount import move_tree, open_tree

_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18
#: Roots that may cover each other; systemd leaves one.
_MOST = 16

_libc = ctypes.CDLL(None, use_errno=True)


def is_namespace_of_the_host() -> bool:
    """Whether this process has the mount namespace of process 1, in which no mount is ours to move."""
    try:
        return os.path.samefile("/proc/self/ns/mnt", "/proc/1/ns/mnt")
    except OSError:
        return True


def leave() -> bool:
    """Where the root covers another one, go into a mount namespace without that; return whether it was so.

    The new namespace has the present root and all that is mounted there, and gets mounts of others as the present one
    does. For a process of one thread. Raises Unavailable with the kernel's reason; the process is where it was then.
    """
    with contextlib.ExitStack() as stack:
        before, root, here = (_opened(stack, path) for path in ("/proc/self/ns/mnt", "/", "."))
        is_left = False
        try:
            _check(_libc.unshare(_CLONE_NEWNS))
            namespace = _opened(stack, "/proc/self/ns/mnt")
            tree = open_tree("/", is_recursive=True)
            stack.callback(os.close, tree)
            if _take_off_all(namespace, like=os.stat("/")) > 1:
                move_tree(tree, "/")
                _check(_libc.setns(namespace, _CLONE_NEWNS))  # to the root that is on top
                is_left = True
        except OSError as error:
            raise Unavailable(
                f"a mount namespace without what the root covers cannot be made: {error.strerror}", code="no-namespace"
            ) from error
        finally:
            if not is_left:
                _check(_libc.setns(before, _CLONE_NEWNS))
                os.fchdir(root)
                os.chroot(".")
                os.fchdir(here)
        return is_left


def _take_off_all(namespace: int, *, like: os.stat_result) -> int:
    """Unmount one root after the other until another directory appears; return how many there were."""
    for number in range(1, _MOST):
        # Private, so that nothing goes elsewhere.
        _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))
        _check(_libc.umount2(b"/", _MNT_DETACH))
        _check(_libc.setns(namespace, _CLONE_NEWNS))
        if not os.path.samestat(os.stat("/"), like):
            return number
    raise OSError(0, f"more than {_MOST} roots cover each other")


def _opened(stack: contextlib.ExitStack, path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
