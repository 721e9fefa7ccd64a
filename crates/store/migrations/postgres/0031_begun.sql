-- Acts of several transactions that were begun and not completed yet: the number of the audit row that stands before
-- the act. A row that is not touched any more is of an act that broke off.

CREATE TABLE begun (
    audit BIGINT PRIMARY KEY REFERENCES audit (id),
    touched_at BIGINT NOT NULL
);
