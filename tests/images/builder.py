"""Builds the images as a user does (images/build.sh), with buildah, on a base of Debian's packages by mmdebstrap.

Nothing is taken from an image registry. Images and layers lie in a store of their own, never in this machine's.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.images.dockerfiles import VERSION, name_of

BUILD_SECONDS = 1500
RUN_SECONDS = 300
NEEDED = ("buildah", "mmdebstrap")
HINT = "on Debian `apt-get install buildah netavark mmdebstrap`"
HOST_AUTHORITIES = Path("/usr/local/share/ca-certificates")
"""Where Debian keeps the certificate authorities that this machine trusts besides the usual ones."""
SETTINGS = ("BASE", "IMAGE_SOURCE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "MILLRACE_MAVEN_REPOSITORY")
"""What images/build.sh takes from the environment and hands to the Dockerfiles."""
SLIM = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
"""What debian:*-slim leaves out of each package."""


class BuildError(Exception):
    """A builder's command failed; the message has the end of what it wrote."""


def why_not() -> str | None:
    """Say why images can't be built here, or None if they can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}: {HINT}"
    if os.geteuid() != 0:
        return "needs root, to unpack a base image and change into it"
    return None


def base_name() -> str:
    """The name that the Dockerfiles give the base image."""
    return f"docker.io/library/debian:{versions()['base_images']['debian']}"


def digest_of(folders: Iterable[Path], *more: str) -> str:
    """Return a digest of the files in these folders, and of some texts besides."""
    digest = hashlib.sha256(repr(more).encode())
    for folder in folders:
        for path in sorted([folder] if folder.is_file() else folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(folder)} {path.stat().st_mode:o} {len(content)}\n".encode())
                digest.update(content)
    return digest.hexdigest()


def _ingredients() -> str:
    """Return a digest of what our images are made from: what .dockerignore lets in, and the settings.

    Not the commit: an image that an earlier one made from the same files differs in a label only.
    """
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    folders = [REPOSITORY / line.removeprefix("!") for line in lines if line.startswith("!")]
    return digest_of(folders, VERSION, *(f"{name}={os.environ.get(name)}" for name in SETTINGS))


@dataclass
class Store:
    """A store of images in one folder, and how long each took to build.

    The folder must be on a file system that overlays can be made on (not tmpfs in a container, for one).
    """

    directory: Path
    kept: bool = False
    """Whether it stays: then layers are kept too, for a faster next time."""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = {"graphroot": self.directory / "graph", "runroot": self.directory / "run"}
        lines = ["[storage]", 'driver = "overlay"', *(f'{key} = "{value}"' for key, value in configuration.items())]
        self._configuration.write_text("\n".join(lines) + "\n")

    @property
    def _configuration(self) -> Path:
        return self.directory / "storage.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which buildah uses this store; chroot, because CI may not make namespaces."""
        return {
            **os.environ,
            "BUILDER": "buildah",
            "BUILDAH_ISOLATION": "chroot",
            "BUILD_OPTIONS": f"--layers={str(self.kept).lower()}",
            "CONTAINERS_STORAGE_CONF": str(self._configuration),
        }

    def run(self, *command: str, seconds: float = 120, cwd: Path = REPOSITORY) -> str:
        """Run a command on this store; return what it writes to its output. Raises BuildError."""
        result = self.attempt(*command, seconds=seconds, cwd=cwd)
        if result.returncode:
            lines = (result.stdout + result.stderr).strip().splitlines()[-15:]
            raise BuildError(f"{' '.join(command)} ended with {result.returncode}:\n" + "\n".join(lines))
        return result.stdout

    def attempt(self, *command: str, seconds: float = 120, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        """Run a command on this store, whatever its exit status."""
        return subprocess.run(
            command,
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def make_base(self) -> None:
        """Make the base image from Debian's packages, under the name that the Dockerfiles give it."""
        name = base_name()
        release = name.rpartition(":")[2]
        if self.has(name):
            return
        began = time.monotonic()
        archive = self.directory / "base.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"]
        command += [f"--dpkgopt=path-exclude={path}" for path in SLIM]
        if HOST_AUTHORITIES.is_dir():
            command += [f"--customize-hook=copy-in {HOST_AUTHORITIES} {HOST_AUTHORITIES.parent}"]
            command += ['--customize-hook=chroot "$1" update-ca-certificates']
        self.run(*command, release.removesuffix("-slim"), str(archive), seconds=BUILD_SECONDS)
        container = self.run("buildah", "from", "scratch").strip()
        try:
            self.run("buildah", "add", "--quiet", container, str(archive), "/")
            self.run("buildah", "config", "--cmd", "bash", container)
            self.run("buildah", "commit", "--quiet", container, name)
        finally:
            self.run("buildah", "rm", container)
            archive.unlink(missing_ok=True)
        self.seconds["base"] = time.monotonic() - began

    def build(self, image: str) -> None:
        """Build one of our images."""
        began = time.monotonic()
        script = REPOSITORY / "images" / "build.sh"
        self.make(name_of(image), _ingredients(), lambda: self.run(str(script), image, seconds=BUILD_SECONDS))
        self.seconds[image] = time.monotonic() - began

    def make(self, name: str, ingredients: str, build: Callable[[], object]) -> None:
        """Make an image, unless this store is kept and it was made in it from the same ingredients.

        The builder would find each layer among its own, too, but reads them all for that: half a minute for our images.

        Args:
            name: of the image.
            ingredients: a digest of what it is made from, besides the base.
            build: makes it.
        """
        notes = self.directory / "built.json"
        built = json.loads(notes.read_text()) if notes.exists() else {}
        made_from = f"{ingredients} {self.identity(base_name())}"
        if not self.kept or built.get(name) != [made_from, self.identity(name)] or not self.has(name):
            build()
            notes.write_text(json.dumps(built | {name: [made_from, self.identity(name)]}))

    def identity(self, name: str) -> str:
        """The digest of an image's configuration, by which it is told from others; empty if there is no such image."""
        return self.attempt("buildah", "inspect", "--type=image", "--format={{.FromImageID}}", name).stdout.strip()

    def has(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        return self.attempt("buildah", "inspect", "--type", "image", name).returncode == 0

    def configuration(self, name: str) -> dict[str, Any]:
        """What an image says of how to start it: User, Entrypoint, Env, Labels and so on."""
        return json.loads(self.run("buildah", "inspect", "--type", "image", name))["OCIv1"]["config"]

    def megabytes(self, name: str) -> float:
        """How large an image is, unpacked, base included."""
        listed = json.loads(self.run("buildah", "images", "--json"))
        [text] = [each["size"] for each in listed if name in (each["names"] or [])]
        number, unit = text.split()
        return float(number) * {"KB": 0.001, "MB": 1, "GB": 1000}[unit]

    def remove(self) -> None:
        """Remove the containers, the images and the folder."""
        self.attempt("buildah", "rm", "--all")
        self.attempt("buildah", "rmi", "--all", "--force")
        # An overlay that is still mounted would be emptied, not removed.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            mounted = line.split()[1]
            if mounted.startswith(f"{self.directory}/"):
                subprocess.run(["umount", mounted], check=False)
        shutil.rmtree(self.directory)


class Container:
    """A container of an image: programs run in it as the image's user, in the image's environment."""

    def __init__(self, store: Store, image: str) -> None:
        self.store = store
        self.configuration = store.configuration(image)
        self.name = store.run("buildah", "from", "--pull-never", image).strip()

    def start(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the image's entrypoint with these arguments."""
        return self.execute(*self.configuration["Entrypoint"], *arguments, **environment)

    def execute(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program instead of the entrypoint.

        What it writes goes to files: what passes through buildah itself is lost now and then, if the program is quick.
        """
        with tempfile.TemporaryDirectory(prefix="output-", dir=self.store.directory) as place:
            output = Path(place)
            output.chmod(0o777)  # whoever the image's user is
            options = [f"--env={name}={value}" for name, value in environment.items()]
            options += ["--volume", f"{output}:/output"]
            redirected = ["sh", "-c", '"$@" >/output/stdout 2>/output/stderr', "sh", *command]
            result = self.store.attempt("buildah", "run", *options, self.name, "--", *redirected, seconds=RUN_SECONDS)
            if not (output / "stderr").exists():
                raise BuildError(f"no program can be run in {self.name}: {result.stderr}")
            texts = [(output / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(list(command), result.returncode, *texts)

    def output(self, *command: str, **environment: str) -> str:
        """Run a program and return what it writes. Raises BuildError if it fails."""
        result = self.execute(*command, **environment)
        if result.returncode:
            raise BuildError(f"{' '.join(command)} ended with {result.returncode}: {result.stdout}{result.stderr}")
        return result.stdout.strip()

    def put(self, file: Path, to: str) -> None:
        """Copy a file into the container."""
        self.store.run("buildah", "copy", "--quiet", self.name, str(file), to)

    def remove(self) -> None:
        """Remove the container."""
        self.store.run("buildah", "rm", self.name)
