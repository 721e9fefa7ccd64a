-- What a GPU is shown as once its proofs did not carry what its machine claims; JSON.
ALTER TABLE gpu ADD COLUMN shown_as TEXT;

DROP TRIGGER gpu_rewritten;
CREATE TRIGGER gpu_rewritten AFTER UPDATE OF claim, label, present, standing, reason, matrix_mmacs, memory_bytes, proof_at, offer, shown_as ON gpu
WHEN (old.claim, old.label, old.present, old.standing, old.reason, old.matrix_mmacs, old.memory_bytes, old.proof_at) <> (new.claim, new.label, new.present, new.standing, new.reason, new.matrix_mmacs, new.memory_bytes, new.proof_at) OR old.offer IS NOT new.offer OR old.shown_as IS NOT new.shown_as BEGIN
    DELETE FROM gpu_changed WHERE gpu = new.id;
    INSERT INTO gpu_changed (gpu) VALUES (new.id);
END;
