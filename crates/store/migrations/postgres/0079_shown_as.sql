-- What a GPU is shown as once its proofs did not carry what its machine claims; JSON.
ALTER TABLE gpu ADD COLUMN shown_as TEXT;

DROP TRIGGER gpu_rewritten ON gpu;
CREATE TRIGGER gpu_rewritten AFTER UPDATE ON gpu FOR EACH ROW
    WHEN ((old.claim, old.label, old.present, old.standing, old.reason, old.matrix_mmacs, old.memory_bytes, old.proof_at) <> (new.claim, new.label, new.present, new.standing, new.reason, new.matrix_mmacs, new.memory_bytes, new.proof_at) OR old.offer IS DISTINCT FROM new.offer OR old.shown_as IS DISTINCT FROM new.shown_as)
    EXECUTE FUNCTION gpu_rewritten();
