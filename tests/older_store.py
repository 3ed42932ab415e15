"""A store as versions before the present one left it."""

from __future__ import annotations

#: What makes of a store one of the second schema, which had neither a log of holdings nor who asked, nor blocks. What
#: is held stays held.
SCHEMA_2 = """
ALTER TABLE holding RENAME TO holding_since;
CREATE TABLE holding (
    version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, kind TEXT NOT NULL,
    container TEXT NOT NULL, interface TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (version, network, length, kind, container, interface)
) WITHOUT ROWID;
INSERT INTO holding
    SELECT version, network, length, kind, label.container, label.interface, epoch, state
    FROM holding_since JOIN label USING (holder)
    WHERE label.since = (SELECT max(since) FROM label WHERE holder = holding_since.holder);
DROP TABLE holding_since; DROP TABLE change; DROP TABLE holder; DROP TABLE label; DROP TABLE past; DROP TABLE uplink;
DROP TABLE block; DROP TABLE failure;
ALTER TABLE history DROP COLUMN user; ALTER TABLE history DROP COLUMN login;
ALTER TABLE history DROP COLUMN process; ALTER TABLE history DROP COLUMN result;
PRAGMA user_version = 2;
"""
