-- Joining proofs are signed: the key that was named for the GPU before the challenge, and its signature over the whole proof.
-- Neither for proofs of before, and of workers that do not sign.
ALTER TABLE proof ADD COLUMN gpu_key BLOB CHECK (length(gpu_key) = 32);
ALTER TABLE proof ADD COLUMN signature TEXT;
