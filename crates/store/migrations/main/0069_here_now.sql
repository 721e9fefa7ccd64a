-- The GPUs that are in a machine now, without their rows: asked by every machine that opens an epoch.
CREATE INDEX gpu_here ON gpu (machine, present);
