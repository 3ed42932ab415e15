"""The text that Prometheus is given."""

from __future__ import annotations

from osctld.core.health.metrics import Family, lines


def test_help_and_type_stand_before_the_samples_of_a_family() -> None:
    family = Family("osctl_things_total", "counter", "Things.", (({"kind": "one"}, 1), ({"kind": "two"}, 0)))

    assert list(lines([family])) == [
        "# HELP osctl_things_total Things.",
        "# TYPE osctl_things_total counter",
        'osctl_things_total{kind="one"} 1',
        'osctl_things_total{kind="two"} 0',
    ]


def test_what_would_end_a_value_is_escaped_and_numbers_are_exact() -> None:
    family = Family("osctl_x", "gauge", "A \\ and\na line.", (({"name": 'a "b" \\ c\nd'}, 1764485123.25),))

    assert list(lines([family])) == [
        "# HELP osctl_x A \\\\ and\\na line.",
        "# TYPE osctl_x gauge",
        'osctl_x{name="a \\"b\\" \\\\ c\\nd"} 1764485123.25',
    ]


def test_a_sample_without_labels_has_no_braces_and_large_counts_stay_whole() -> None:
    family = Family("osctl_x_total", "counter", "X.", (({}, 2**53 - 1),))

    assert list(lines([family]))[-1] == "osctl_x_total 9007199254740991"
