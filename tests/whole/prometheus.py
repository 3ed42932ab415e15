"""Prometheus' text format read strictly, as its documentation describes it, and by Prometheus' own tools."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from whole.host import run

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_HEAD = re.compile(rf"# (HELP|TYPE) ({_NAME}) (.+)")

Labels = frozenset[tuple[str, str]]


class Family(NamedTuple):
    kind: str
    help: str
    samples: dict[Labels, float]

    def value(self, **labels: str) -> float:
        """The sample that has these labels among its own; there is exactly one."""
        (found,) = [value for each, value in self.samples.items() if each >= set(labels.items())]
        return found


def parse(text: str) -> Mapping[str, Family]:
    """Families by name. Raises AssertionError for anything that Prometheus would not take, or that is not in order:
    each family once, HELP and TYPE before its samples, no sample twice, the same labels throughout."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    help_of: dict[str, str] = {}
    kind_of: dict[str, str] = {}
    present = ""
    for line in text.splitlines():
        head = _HEAD.fullmatch(line)
        if head is not None:
            what, present, words = head.groups()
            target = help_of if what == "HELP" else kind_of
            assert present not in target, line
            assert present not in families, line
            target[present] = words
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, inner, value = sample.groups()
        assert name == present, line
        labels = _labels(inner or "", line)
        family = families.setdefault(name, Family(kind_of[name], help_of[name], {}))
        assert labels not in family.samples, line
        family.samples[labels] = float(value)
    for name, family in families.items():
        assert family.kind in ("counter", "gauge"), name
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert len({frozenset(label for label, _ in labels) for labels in family.samples}) == 1, name
        assert family.kind == "gauge" or min(family.samples.values()) >= 0, name
    assert help_of.keys() == kind_of.keys() == families.keys()
    return families


def _labels(inner: str, line: str) -> Labels:
    pairs = _PAIR.findall(inner)
    assert ",".join(f'{name}="{value}"' for name, value in pairs) == inner, line
    assert len({name for name, _ in pairs}) == len(pairs), line
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
    return frozenset((name, re.sub(r"\\.", lambda found: escapes[found[0]], value)) for name, value in pairs)


def check_by_tools(text: str) -> list[str]:
    """Have whichever of Prometheus' own tools are installed read the text; the names of those.

    promtool is in Debian's package prometheus, the parser in python3-prometheus-client.
    """
    used = []
    promtool = shutil.which("promtool")
    if promtool is not None:
        done = run(promtool, "check", "metrics", stdin=text)
        assert (done.stdout, done.stderr) == ("", "")
        used.append("promtool")
    if Path("/usr/lib/python3/dist-packages/prometheus_client/parser.py").exists():
        script = """if True:
            import sys
            from prometheus_client.parser import text_string_to_metric_families
            for family in text_string_to_metric_families(sys.stdin.read()):
                assert family.type in ("counter", "gauge") and family.documentation and family.samples, family
        """
        run("/usr/bin/python3", "-I", "-c", script, stdin=text)
        used.append("prometheus_client")
    return used
