-- Acts of several transactions that were begun and not completed yet: the number of the audit row that stands before
-- the act. A row that is not touched any more is of an act that broke off.

CREATE TABLE begun (
    audit INTEGER PRIMARY KEY REFERENCES audit (id),
    touched_at INTEGER NOT NULL
) STRICT;
