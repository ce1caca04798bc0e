#!/bin/bash
# What Spark has Kubernetes run before it ends an executor (spark.decommission.enabled): ask the executor to hand its
# blocks over (SIGPWR), and wait until it has ended; the pod's grace period bounds the wait.
set -euo pipefail

for process in "${PROC:-/proc}"/[0-9]*; do
  pid="${process##*/}"
  if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qx 'org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend' &&
    [[ "$(cat "$process/comm")" == java ]]; then
    kill -s PWR "$pid"
    exec tail --pid="$pid" --follow /dev/null
  fi
done
echo "decom.sh: no executor runs in this container." >&2
exit 1
