-- One part's database and its three roles. Run by a superuser, once per part, as often as wanted:
--
--   psql -v ON_ERROR_STOP=1 --dbname=postgres <<SQL
--   \set part records
--   \set migrator_password `cat records-migrator-password`
--   \set app_password `cat records-app-password`
--   \include roles.sql
--   SQL
--
-- A password may be given as a SCRAM-SHA-256 verifier, so that the server never sees the password itself.
--
--   <part>_owner     cannot log in; owns the schema and everything in it
--   <part>_migrator  may become the owner by SET ROLE, and inherits nothing: the migration job alone uses it
--   <part>_app       the service; has only what migrations grant it, table by table

\set database 'dossier_' :part
\set owner :part '_owner'
\set migrator :part '_migrator'
\set app :part '_app'

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY[:'owner', :'migrator', :'app']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE :"owner" NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE :"migrator" LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'migrator_password';
ALTER ROLE :"app" LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'app_password';
GRANT :"owner" TO :"migrator" WITH INHERIT FALSE, SET TRUE, ADMIN FALSE;

SELECT format('CREATE DATABASE %I TEMPLATE template0', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec

REVOKE ALL ON DATABASE :"database", postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"migrator", :"app";

-- A session that holds a transaction open and says nothing holds its locks too.
ALTER ROLE :"app" IN DATABASE :"database" SET search_path = public;
ALTER ROLE :"app" IN DATABASE :"database" SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE :"app" IN DATABASE :"database" SET lock_timeout = '10s';
ALTER ROLE :"migrator" IN DATABASE :"database" SET search_path = public;
ALTER ROLE :"migrator" IN DATABASE :"database" SET lock_timeout = '5s';

\connect :"database"

ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"app";
-- Functions are the one kind of object that everyone may use when it is new.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

\connect postgres
