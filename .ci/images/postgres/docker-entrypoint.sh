#!/bin/bash
# As the official entrypoint: makes a cluster at the first start, then becomes the server.
set -euo pipefail
if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  mkdir -p "$PGDATA"
  # shellcheck disable=SC2086  # the arguments are words
  initdb --pgdata "$PGDATA" --username postgres --pwfile "$POSTGRES_PASSWORD_FILE" \
    --auth-local trust --auth-host scram-sha-256 ${POSTGRES_INITDB_ARGS:-}
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi
if [ "$1" = postgres ]; then set -- "$@" -c unix_socket_directories=/var/run/postgresql; fi
exec "$@"
