"""What whoever started the daemon had it ignore or block: not for guests, which would inherit it for ever.

nohup(1) has hang-ups ignored, a shell without job control Ctrl-C, and execve(2) hands both on; a program cannot tell
that from what was meant for it, and an init that ignores a signal by inheritance is deaf to it.
"""

from __future__ import annotations

import signal

#: Python ignores these itself, and undoes that for each program that it executes (subprocess, restore_signals).
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def stop_passing_on() -> None:
    """Keep ignoring what was ignored, but with a handler: execve(2) gives those back their default. Block nothing.

    To be called in the main thread, before others are made.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _OF_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            # An ignored SIGCHLD would make the kernel reap our children before we hear how they ended.
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _do_nothing)


def _do_nothing(_number: int, _frame: object) -> None:
    pass
