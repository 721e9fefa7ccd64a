-- What machines send in bulk comes in by functions alone: the role of the intake can call those of the schema
-- gangline_intake, and can neither read nor write a table. 0040 has them.
COMMENT ON SCHEMA gangline_intake IS 'functions by which beats come in';
