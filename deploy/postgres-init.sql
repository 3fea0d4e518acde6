-- Run once by PostgreSQL's image, as its superuser, when the volume is empty: the role that authsvc logs in as owns its
-- own database and is nothing else.
SET log_min_error_statement = panic; -- a statement that fails would be logged, with the password
\set password `cat /run/secrets/postgres_password`
CREATE ROLE authsvc LOGIN PASSWORD :'password';
CREATE DATABASE authsvc OWNER authsvc;
-- The superuser comes in over the socket in the container alone (docker compose exec), which asks for no password.
ALTER ROLE postgres PASSWORD NULL;
