#!/bin/bash
# Make the class archive that this image's drivers and executors start from (docs/decisions/0017), while it is built:
#   class-archive.sh TRAINING DIRECTORY
# runs the Python file TRAINING as a driver, and writes what entrypoint.sh uses to DIRECTORY: `spark.jsa`, which has the
# classes that the driver loaded, and `class-path`, the one that Java takes them for.
set -euo pipefail
training="$1" directory="$2"

# Java takes an archive for the very same jars in the same order only. A wildcard has the order of the file system;
# this is the one of their names, with the jar before all others that Spark, too, has before all others.
export LC_ALL=C
first="$(ls "$SPARK_HOME"/jars/slf4j-api-*.jar)"
class_path="$first"
for jar in "$SPARK_HOME"/jars/*.jar; do
  [[ "$jar" == "$first" ]] || class_path+=":$jar"
done

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_HOSTNAME=localhost HOME="$work"
SPARK_SUBMIT_OPTS="-XX:TieredStopAtLevel=1 -XX:DumpLoadedClassList=$work/classes" \
  "$SPARK_HOME/bin/spark-submit" --master 'local[2]' --conf spark.driver.host=127.0.0.1 --conf spark.ui.port=0 \
  --driver-class-path "$class_path" "$training" "$work"
mkdir -p "$directory"
"$JAVA_HOME/bin/java" -Xshare:dump -Xlog:cds*=error -XX:SharedClassListFile="$work/classes" \
  -XX:SharedArchiveFile="$directory/spark.jsa" -cp "$class_path"
printf '%s' "$class_path" >"$directory/class-path"
