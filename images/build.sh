#!/bin/bash
# Build the images, all of them or those that are named: images/build.sh [airflow] [spark] [ingest]
#   BUILDER            docker or buildah (default: docker if its engine answers, else buildah)
#   IMAGE_REGISTRY     what stands before the name (default: nothing); IMAGE_TAG (default: the version in pyproject.toml)
#   BASE               the base image, best by digest (default: that of the Dockerfiles)
#   IMAGE_SOURCE       address of the sources, for the label of that name
#   BUILD_OPTIONS      more options for the builder
#   PIP_INDEX_URL, UV_DEFAULT_INDEX, MILLRACE_MAVEN_REPOSITORY   mirrors to take packages and jars from
set -euo pipefail
cd "$(dirname "$0")/.."

builder="${BUILDER:-}"
if [[ -z "$builder" ]]; then
  if docker info >/dev/null 2>&1; then
    builder=docker
  elif command -v buildah >/dev/null; then
    builder=buildah
  else
    echo "images: neither Docker's engine answers nor is there buildah: start the one or install the other." >&2
    exit 2
  fi
fi
case "$builder" in
  docker) command=(docker build) ;;
  buildah) command=(buildah bud --layers) ;;
  *)
    echo "images: BUILDER is '$builder': set it to docker or buildah." >&2
    exit 2
    ;;
esac

version="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)"
options=(--build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
for name in BASE IMAGE_SOURCE PIP_INDEX_URL UV_DEFAULT_INDEX MILLRACE_MAVEN_REPOSITORY; do
  [[ -z "${!name:-}" ]] || options+=(--build-arg "$name=${!name}")
done
read -ra more <<<"${BUILD_OPTIONS:-}"

[[ $# -gt 0 ]] || set -- airflow spark ingest
for image; do
  if [[ ! -f "images/$image/Dockerfile" ]]; then
    echo "images: there is no image '$image': take of airflow, spark, ingest." >&2
    exit 2
  fi
  name="${IMAGE_REGISTRY:+$IMAGE_REGISTRY/}millrace/$image:${IMAGE_TAG:-$version}"
  echo "Building $name with $builder"
  "${command[@]}" "${options[@]}" "${more[@]}" --tag "$name" --file "images/$image/Dockerfile" .
done
