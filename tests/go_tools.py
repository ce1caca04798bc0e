"""Tools that are written in Go: built once from their modules, at the versions that versions.yaml pins."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from embedded.settings import load_settings
from embedded.versions import versions

BUILD_SECONDS = 1800
# What debuggers need is left out, calls are not inlined, and each package is compiled by one thread. Measured on
# versitygw, from an empty cache, in CPU seconds: 99 as Go does it, 89, 67, and 59.
LEAN = ("-trimpath", "-gcflags=all=-dwarf=false -l -c=1")
LEAN_LINK = "-s -w"
STAGED = "./staging/src/"


@dataclass(frozen=True)
class GoTool:
    """Where a tool comes from. Its version is that of `tools` in versions.yaml."""

    module: str
    """Path of the Go module."""
    package: str
    """Path of the main package below the module; empty if it is the module itself."""
    tags: str = ""
    """Build tags."""
    pinned_as: str = ""
    """The name under which versions.yaml has its version; empty if it is the tool's own."""
    absent: str = ""
    """A file that the sources embed and the module lacks, as Node makes it: an empty one is put there."""

    @property
    def path(self) -> str:
        """Import path of the main package."""
        return f"{self.module}/{self.package}".rstrip("/")


# Of what finds targets only Kubernetes: two dozen clouds would be most of the build, and of the program.
PROMETHEUS_TAGS = "remove_all_sd enable_kubernetes_sd"

GO_TOOLS = {
    **{
        name: GoTool("github.com/containerd/containerd/v2", f"cmd/{name}", "no_btrfs no_zfs no_devmapper", "containerd")
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    **{
        name: GoTool("github.com/containernetworking/plugins", f"plugins/{kind}/{name}", pinned_as="cni-plugins")
        for kind, name in (("ipam", "host-local"), ("main", "loopback"), ("main", "ptp"))
    },
    **{
        name: GoTool("github.com/prometheus-operator/prometheus-operator", f"cmd/{package}", "", "prometheus-operator")
        for name, package in (
            ("prometheus-operator", "operator"),
            ("prometheus-config-reloader", "prometheus-config-reloader"),
        )
    },
    # Without its web pages, so that it answers its API and /-/ready, and 404 on /.
    "alertmanager": GoTool(
        "github.com/prometheus/alertmanager", "cmd/alertmanager", pinned_as="amtool", absent="ui/app/dist/favicon.ico"
    ),
    "amtool": GoTool("github.com/prometheus/alertmanager", "cmd/amtool"),
    "helm": GoTool("helm.sh/helm/v3", "cmd/helm"),
    "helm-docs": GoTool("github.com/norwoodj/helm-docs", "cmd/helm-docs"),
    "prometheus": GoTool("github.com/prometheus/prometheus", "cmd/prometheus", PROMETHEUS_TAGS),
    "promtool": GoTool("github.com/prometheus/prometheus", "cmd/promtool", PROMETHEUS_TAGS),
    "statsd_exporter": GoTool("github.com/prometheus/statsd_exporter", ""),
    # Where images/sbom.sh puts it, too.
    "syft": GoTool("github.com/anchore/syft", "cmd/syft"),
    "versitygw": GoTool("github.com/versity/versitygw", "cmd/versitygw"),
}


@cache
def go_tool(name: str) -> Path:
    """Return the pinned tool, built if it isn't there yet. Skips the test where there is no Go to build it."""
    tool = GO_TOOLS[name]
    version = versions()["tools"][tool.pinned_as or name]
    built = load_settings().home / "tools" / "-".join([name, version, *tool.tags.split()])
    with built_once(built):
        if not built.exists():
            _build(name, tool, f"v{version}", built)
    return built


@contextmanager
def built_once(path: Path) -> Iterator[None]:
    """While somebody builds what goes to `path`, others who want it wait instead of building it, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def go_module(module: str, version: str) -> Path:
    """Return the folder with the sources of a Go module. Skips the test where there is no Go to fetch it.

    Args:
        module: path of the module.
        version: without the leading v.
    """
    return Path(_download(module, f"v{version}")["Dir"])


def go_program(source: Path, modules: Mapping[str, str], to: Path, settings: Mapping[str, str]) -> None:
    """Build a main package of ours. Skips the test where there is no Go to build it.

    Args:
        source: its one file.
        modules: path of each module that it needs, and the version, without the leading v.
        to: where the program goes.
        settings: string variables of packages, and the values that they get.
    """
    requirements = [each for module, version in modules.items() for each in _requirements(module, f"v{version}")]
    flags = " ".join([LEAN_LINK, *(f"-X {name}={value}" for name, value in settings.items())])
    with tempfile.TemporaryDirectory(prefix=f"incomplete-{to.name}-", dir=to.parent) as place:
        shutil.copy(source, place)
        _go("mod", "init", "millrace", place=place)
        _go("mod", "edit", *requirements, place=place)
        _go("build", "-mod=mod", *LEAN, "-ldflags", flags, "-o", "program", ".", place=place)
        (Path(place) / "program").rename(to)


def _build(name: str, tool: GoTool, version: str, to: Path) -> None:
    """Build within a module of our own, as some tools (Kubernetes') can't be installed by `go install`."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"incomplete-{name}-", dir=to.parent) as place:
        _go("mod", "init", "tool", place=place)
        _go("mod", "edit", *_requirements(tool.module, version), place=place)
        if tool.absent:
            sources = Path(place) / "sources"
            shutil.copytree(_download(tool.module, version)["Dir"], sources, copy_function=shutil.copyfile)
            for folder in (sources, *(each for each in sources.rglob("*") if each.is_dir())):
                folder.chmod(0o755)  # those of Go's cache can't be written
            (sources / tool.absent).parent.mkdir(parents=True)
            (sources / tool.absent).touch()
            _go("mod", "edit", f"-replace={tool.module}={sources}", place=place)
        _go("build", "-mod=mod", *LEAN, "-ldflags", LEAN_LINK, f"-tags={tool.tags}", "-o", name, tool.path, place=place)
        (Path(place) / name).rename(to)


def _requirements(module: str, version: str) -> list[str]:
    """Return the arguments of `go mod edit` that make a module needed, its own replacements included."""
    requirements = [f"-require={module}@{version}"]
    described = json.loads(_go("mod", "edit", "-json", _download(module, version)["GoMod"]))
    for each in described.get("Replace") or []:
        # Kubernetes keeps its libraries in its own repository, and publishes each as v0.<minor>.<patch>.
        if each["New"]["Path"].startswith(STAGED):
            path = each["Old"]["Path"]
            requirements.append(f"-replace={path}={path}@v0.{version.partition('.')[2]}")
    return requirements


def _download(module: str, version: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as place:
        return json.loads(_go("mod", "download", "-json", f"{module}@{version}", place=place))


def _go(*arguments: str, place: str | None = None) -> str:
    """Return what a command of Go writes."""
    if shutil.which("go") is None:
        pytest.skip(f"needs Go 1.26 or later for `go {' '.join(arguments[:3])}`: install it from https://go.dev")
    result = subprocess.run(
        ["go", *arguments],
        cwd=place,
        # The compiler's garbage is collected less often: three quarters of the CPU time, measured on statsd_exporter.
        env={"GOGC": "800", **os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if result.returncode:
        reason = result.stderr.strip().splitlines() or ["no reason given"]
        if "requires go >= " in reason[-1]:
            pytest.skip(f"needs a newer Go ({reason[-1]}): install it from https://go.dev")
        pytest.fail(f"`go {' '.join(arguments)}` failed: {reason[-1]}")
    return result.stdout
