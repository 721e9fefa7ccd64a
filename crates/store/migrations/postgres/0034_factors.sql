-- Whether whoever began a session showed two factors: a passkey verifies its user, a provider has to have said so.
ALTER TABLE session ADD COLUMN two_factors BOOLEAN NOT NULL DEFAULT false;
UPDATE session SET two_factors = true WHERE how = 'passkey';
