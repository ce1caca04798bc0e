"""Kubernetes' own definitions of its resources, and the check of an object against them."""

import json
from functools import cache
from typing import Any

import jsonschema

from embedded.versions import versions
from tests.charts.schemas import sentences, strict
from tests.go_tools import go_module

STRINGS_OR_NUMBERS = (
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
)


def releases() -> list[str]:
    """The oldest and the newest release of Kubernetes that the chart is for."""
    return [str(versions()["kubernetes"][name]) for name in ("minimum_release", "tested_release")]


def kubernetes_problems(document: dict[str, Any], release: str) -> list[str]:
    """Return what an API server of the release would say against the object, one sentence for each.

    Args:
        document: an object of a kind of Kubernetes' own.
        release: such as 1.36.3. Its definitions are fetched once; without Go to do so the test is skipped.
    """
    validator = _validator(release, document["apiVersion"], document["kind"])
    if validator is None:
        return [f"Kubernetes {release} has no {document['apiVersion']} {document['kind']}"]
    return sentences(validator, document)


@cache
def _validator(release: str, api_version: str, kind: str) -> jsonschema.protocols.Validator | None:
    definitions, names = _definitions(release)
    name = names.get((api_version, kind))
    if name is None:
        return None
    schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
    return jsonschema.Draft7Validator(schema)


@cache
def _definitions(release: str) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """The definitions by their names, unknown fields refused, and those names by (apiVersion, kind)."""
    document = go_module("k8s.io/kubernetes", release) / "api" / "openapi-spec" / "swagger.json"
    found = json.loads(document.read_text())["definitions"]
    names = {
        (f"{each['group']}/{each['version']}".lstrip("/"), each["kind"]): name
        for name, schema in found.items()
        for each in schema.get("x-kubernetes-group-version-kind", [])
    }
    for name in STRINGS_OR_NUMBERS:
        found[name] = {"type": ["string", "number"]}
    return {name: strict(schema) for name, schema in found.items()}, names
