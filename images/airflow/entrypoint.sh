#!/bin/bash
# What each container of the Airflow chart starts with, and its probes call: wait until the metadata database answers,
# then run bash, python or Airflow. CONNECTION_CHECK_MAX_COUNT=0 does not wait; CONNECTION_CHECK_SLEEP_TIME is in seconds.
set -euo pipefail

attempts="${CONNECTION_CHECK_MAX_COUNT:-20}"
pause="${CONNECTION_CHECK_SLEEP_TIME:-3}"
for name in CONNECTION_CHECK_MAX_COUNT:$attempts CONNECTION_CHECK_SLEEP_TIME:$pause; do
  if [[ ! "${name#*:}" =~ ^[0-9]+$ ]]; then
    echo "entrypoint: ${name%%:*} is '${name#*:}', which is not a whole number: correct it or unset it." >&2
    exit 2
  fi
done

# A task's pod is kept from the database by the network policies, and has no use for it.
[[ -z "${AIRFLOW_IS_K8S_EXECUTOR_POD:-}" ]] || attempts=0

# Group 0 may write what we write, whatever user the cluster chose.
umask 0002

ask_the_database() {
  # `airflow db check` asks the same, and takes four times the CPU time, as it starts all of Airflow. It knows the
  # places besides these variables that an address may come from.
  if [[ -z "${AIRFLOW__DATABASE__SQL_ALCHEMY_CONN:-}" ]]; then
    airflow db check
    return
  fi
  python -c '
import os, sys
import sqlalchemy as sa

try:
    with sa.create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).connect() as connection:
        connection.execute(sa.text("SELECT 1"))
except (sa.exc.SQLAlchemyError, ImportError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
'
}

for ((attempt = 1; attempt <= attempts; attempt++)); do
  if answer="$(ask_the_database 2>&1)"; then
    break
  fi
  if ((attempt == attempts)); then
    echo "entrypoint: the metadata database did not answer $attempts times, $pause s apart; the last time:" >&2
    echo "$answer" >&2
    exit 1
  fi
  sleep "$pause"
done

case "${1:-}" in
  bash | python | airflow) exec "$@" ;;
  *) exec airflow "$@" ;;
esac
