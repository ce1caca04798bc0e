#!/bin/bash
# What a container of Spark on Kubernetes starts with: `driver ARGUMENT...` and `executor`, as Spark's scheduler writes
# them into the pods; anything else is run as it is.
set -euo pipefail

need() {
  local name
  for name; do
    if [[ -z "${!name:-}" ]]; then
      echo "entrypoint: $name is not set: '$role' is started by Spark's Kubernetes scheduler, which sets it." >&2
      exit 2
    fi
  done
}

# The class archive (class-archive.sh) holds for the class path of which it was made, with anything after it. What an
# application puts before that is why it starts without the archive; Java itself leaves one alone that does not fit.
archive="${SPARK_CLASS_ARCHIVE:-/opt/class-archive}"
# At the address that it was made for, all JVMs of a node share its pages; elsewhere each would have 195 MB of its own.
archive_options=("-XX:SharedArchiveFile=$archive/spark.jsa" "-XX:+UnlockDiagnosticVMOptions"
  "-XX:ArchiveRelocationMode=0" "-Xlog:cds*=off")
has_archive() { [[ -f "$archive/spark.jsa" && -f "$archive/class-path" ]]; }

role="${1:-}"
case "$role" in
  driver)
    shift
    need SPARK_DRIVER_BIND_ADDRESS
    class_path=()
    if has_archive && ! grep -qs '^spark\.driver\.extraClassPath' "${SPARK_CONF_DIR:-$SPARK_HOME/conf}/spark.properties"; then
      class_path=(--driver-class-path "$(<"$archive/class-path")")
      export SPARK_SUBMIT_OPTS="${archive_options[*]} ${SPARK_SUBMIT_OPTS:-}"
    fi
    command=("$SPARK_HOME/bin/spark-submit" --deploy-mode client
      --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS"
      --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS" "${class_path[@]}" "$@")
    ;;
  executor)
    need SPARK_DRIVER_URL SPARK_EXECUTOR_ID SPARK_EXECUTOR_CORES SPARK_EXECUTOR_MEMORY SPARK_APPLICATION_ID \
      SPARK_EXECUTOR_POD_IP SPARK_EXECUTOR_POD_NAME SPARK_RESOURCE_PROFILE_ID
    # spark.executor.extraJavaOptions and the like arrive one by one, numbered from 0.
    options=()
    for ((number = 0; ; number++)); do
      name="SPARK_JAVA_OPT_$number"
      [[ -v "$name" ]] || break
      options+=("${!name}")
    done
    # Settings come before jars, and what the application adds before what the image has. No jar has a file of settings
    # of the same name, so that those of the archive may stand before both.
    class_path=""
    if has_archive && [[ -z "${SPARK_CLASSPATH:-}" ]]; then
      class_path="$(<"$archive/class-path"):"
      options=("${archive_options[@]}" "${options[@]}")
    fi
    class_path+="${SPARK_CONF_DIR:-$SPARK_HOME/conf}"
    for part in "${HADOOP_CONF_DIR:-}" "${SPARK_CLASSPATH:-}" "$SPARK_HOME/jars/*" "${SPARK_EXTRA_CLASSPATH:-}" \
      "${SPARK_DIST_CLASSPATH:-}"; do
      class_path+="${part:+:$part}"
    done
    command=("$JAVA_HOME/bin/java" "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY"
      -cp "$class_path" org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES"
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP"
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME")
    ;;
  "")
    echo "entrypoint: no command: give 'driver ...' or 'executor' (Spark's scheduler does), or a program such as bash." >&2
    exit 2
    ;;
  *)
    command=("$@")
    ;;
esac
# tini reaps what Python's workers leave, and passes signals on.
exec tini -s -- "${command[@]}"
