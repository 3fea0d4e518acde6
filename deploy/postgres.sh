# Run once by PostgreSQL's image, when it makes its data directory. authsvc's role owns its database, because replicas
# bring the schema up to date by themselves, and is no superuser. The superuser, postgres, is left without a password:
# only `docker compose exec postgres` can be it.
psql --username=postgres --set=ON_ERROR_STOP=1 <<'SQL'
\set password `cat "$POSTGRES_PASSWORD_FILE"`
CREATE ROLE authsvc LOGIN PASSWORD :'password';
CREATE DATABASE authsvc OWNER authsvc;
ALTER ROLE postgres PASSWORD NULL;
SQL
