-- Who may not take set_config from everybody is told so by the server in its own words, with the remedy.
ALTER FUNCTION ensure_grants() SET client_min_messages = error;
