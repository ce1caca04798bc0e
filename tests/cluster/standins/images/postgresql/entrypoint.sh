#!/bin/bash
# Make a database in PGDATA if it holds none, run what is in /docker-entrypoint-initdb.d once, then become the server.
# Arguments that begin with a dash are the server's.
set -euo pipefail

[[ "${1:-}" != postgres ]] || shift
if [[ -n "${1:-}" && "$1" != -* ]]; then
  echo "entrypoint: '$1' is no option: only PostgreSQL's server is started here." >&2
  exit 2
fi

if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
  if [[ ! -s "${POSTGRES_PASSWORD_FILE:-}" ]]; then
    echo "entrypoint: POSTGRES_PASSWORD_FILE is '${POSTGRES_PASSWORD_FILE:-}', where no password is: name a file with one." >&2
    exit 1
  fi
  # A folder is a database once PG_VERSION is there, so a first start that was cut off would count as done. The official
  # image does not mind; here the volume of a test is thrown away.
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  # Words of their own, as the official image takes them.
  read -ra options <<<"${POSTGRES_INITDB_ARGS:-}"
  initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" "${options[@]}"
  # initdb lets in who comes from this machine, and so does the server; the cluster is outside.
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"

  # On its socket only, so that nobody takes it for the server that is to stay.
  pg_ctl --pgdata="$PGDATA" --wait --options="$(printf '%q ' "$@" -c listen_addresses=)" start
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [[ -e "$file" ]] || continue
    echo "entrypoint: running $file"
    psql --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres --file "$file"
  done
  pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
fi

exec postgres "$@"
