-- Permitted acts are searched for by what they were and on what, too.
CREATE INDEX audit_action ON audit (action, id);
CREATE INDEX audit_resource ON audit (resource, id);
