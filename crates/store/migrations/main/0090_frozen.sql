-- The table of freezes is called as in PostgreSQL, where FREEZE is a word of the language: one statement serves both.
ALTER TABLE freeze RENAME TO frozen;
