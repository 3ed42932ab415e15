"""The version that client, daemon and help name."""

from __future__ import annotations

VERSION = "0.1.0"
