#!/bin/bash
# Write what each built image holds, as CycloneDX JSON: images/sbom.sh [airflow] [spark] [ingest]
#   SYFT               the program (default: syft on PATH, else the release that versions.yaml pins, built with Go once)
#   SBOM_DIRECTORY     where to (default: .millrace/sbom)
#   BUILDER, IMAGE_REGISTRY, IMAGE_TAG   as for images/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

pinned="$(sed -n 's/^  syft: \([0-9.]*\).*$/\1/p' versions.yaml)"
tools="${MILLRACE_HOME:-.millrace}/tools"
syft="${SYFT:-$(command -v syft || echo "$tools/syft-$pinned")}"
work="$(mktemp --directory)"
trap 'rm -rf "$work"' EXIT
if [[ ! -x "$syft" ]]; then
  if ! command -v go >/dev/null; then
    echo "sbom: needs syft $pinned, or Go to build it: install one of them (https://github.com/anchore/syft)." >&2
    exit 2
  fi
  echo "Building syft $pinned (once, some minutes)"
  mkdir -p "$tools"
  CGO_ENABLED=0 GOBIN="$work" go install "github.com/anchore/syft/cmd/syft@v$pinned"
  mv "$work/syft" "$tools/syft-$pinned"
fi

builder="${BUILDER:-}"
[[ -n "$builder" ]] || { docker info >/dev/null 2>&1 && builder=docker || builder=buildah; }
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)"
directory="${SBOM_DIRECTORY:-.millrace/sbom}"
mkdir -p "$directory"

[[ $# -gt 0 ]] || set -- airflow spark ingest
for image; do
  name="${IMAGE_REGISTRY:+$IMAGE_REGISTRY/}millrace/$image:${IMAGE_TAG:-$version}"
  if [[ "$builder" == docker ]]; then
    saved=(docker save --output "$work/$image.tar" "$name")
    kind=docker-archive
  else
    saved=(buildah push --quiet "$name" "oci-archive:$work/$image.tar:$name")
    kind=oci-archive
  fi
  if ! "${saved[@]}" >"$work/log" 2>&1; then
    echo "sbom: $name can't be read ($(tail -n 1 "$work/log")): build it first with \`make images\`." >&2
    exit 1
  fi
  # Asking whether there is a newer syft is none of this command's business.
  SYFT_CHECK_FOR_APP_UPDATE=false "$syft" scan --quiet "$kind:$work/$image.tar" \
    --source-name "millrace/$image" --source-version "${IMAGE_TAG:-$version}" --output "cyclonedx-json=$directory/$image.cdx.json"
  rm "$work/$image.tar"
  echo "Wrote $directory/$image.cdx.json"
done
