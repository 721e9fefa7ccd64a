-- Whether whoever began a session showed two factors: a passkey verifies its user, a provider has to have said so.
ALTER TABLE session ADD COLUMN two_factors INTEGER NOT NULL DEFAULT 0 CHECK (two_factors IN (0, 1));
UPDATE session SET two_factors = 1 WHERE how = 'passkey';
