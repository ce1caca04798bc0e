"""images/build.sh and images/sbom.sh, with stand-ins for the builders."""

import pytest

from embedded.paths import REPOSITORY
from tests.images.dockerfiles import VERSION
from tests.images.stand_ins import StandIns

BUILD = REPOSITORY / "images" / "build.sh"
SBOM = REPOSITORY / "images" / "sbom.sh"


@pytest.fixture
def builders(tmp_path):
    """docker, whose engine answers, buildah and git."""
    made = StandIns(tmp_path)
    made.program("git", "echo 0123abc")
    made.program("docker", '[[ "$1" != save ]] || touch "$3"')
    made.program("buildah")
    return made


def test_docker_builds_all_three_from_the_root(builders):
    result = builders.run(BUILD)
    assert result.returncode == 0, result.stderr
    called = " ".join(builders.called())
    assert "buildah" not in called
    for image in ("airflow", "spark", "ingest"):
        assert f"--tag millrace/{image}:{VERSION} --file images/{image}/Dockerfile ." in called
    assert called.count("docker build ") == 3
    assert called.count(f"--build-arg VERSION={VERSION} --build-arg REVISION=0123abc") == 3


def test_buildah_builds_where_no_engine_answers(builders):
    builders.program("docker", "exit 1")
    result = builders.run(BUILD, "spark")
    assert result.returncode == 0, result.stderr
    called = " ".join(builders.called())
    assert called.count("buildah bud ") == 1
    assert f"--tag millrace/spark:{VERSION} --file images/spark/Dockerfile ." in called


def test_registry_tag_and_mirrors_are_passed_on(builders):
    settings = {"IMAGE_REGISTRY": "registry.example.com/team", "IMAGE_TAG": "7", "BASE": "base@sha256:1"}
    builders.run(
        BUILD, "ingest", **settings, UV_DEFAULT_INDEX="https://mirror.example.com", BUILD_OPTIONS="--pull --quiet"
    )
    called = " ".join(builders.called())
    assert (
        "--build-arg BASE=base@sha256:1 --build-arg UV_DEFAULT_INDEX=https://mirror.example.com --pull --quiet"
        in called
    )
    assert "--tag registry.example.com/team/millrace/ingest:7" in called
    assert "PIP_INDEX_URL" not in called


def test_a_failed_build_ends_it(builders):
    builders.program("docker", '[[ "$1" == info ]]')
    assert builders.run(BUILD).returncode != 0
    assert builders.called().count("build") == 1


@pytest.mark.parametrize(
    ("image", "settings", "words"),
    [
        ("flink", {}, "there is no image 'flink': take of airflow, spark, ingest."),
        ("spark", {"BUILDER": "podman"}, "BUILDER is 'podman': set it to docker or buildah."),
    ],
)
def test_bad_input_is_one_sentence(builders, image, settings, words):
    result = builders.run(BUILD, image, **settings)
    assert result.returncode == 2
    assert words in result.stderr
    assert not {"build", "bud"} & set(builders.called())


def test_without_a_builder_it_says_what_to_install(tmp_path):
    made = StandIns(tmp_path)
    for name in ("docker", "buildah"):
        made.hide(name)
    result = made.run(BUILD)
    assert result.returncode == 2
    assert "neither Docker's engine answers nor is there buildah" in result.stderr


def test_sbom_is_written_from_the_saved_image(builders, tmp_path):
    builders.program("syft", 'for each; do [[ "$each" != cyclonedx-json=* ]] || echo "{}" >"${each#*=}"; done')
    result = builders.run(SBOM, "spark", SBOM_DIRECTORY=str(tmp_path / "sbom"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "sbom" / "spark.cdx.json").read_text() == "{}\n"
    called = " ".join(builders.called())
    assert f"millrace/spark:{VERSION} syft scan --quiet docker-archive:" in called
    assert f"--source-name millrace/spark --source-version {VERSION}" in called


def test_sbom_builds_syft_once_where_there_is_none(builders, tmp_path):
    builders.hide("syft")
    builders.program(
        "go", 'printf "#!/bin/bash\\necho scanned >>\\"$RECORD\\"\\n" >"$GOBIN/syft"; chmod +x "$GOBIN/syft"'
    )
    settings = {"SBOM_DIRECTORY": str(tmp_path), "MILLRACE_HOME": str(tmp_path / "home")}
    for _ in range(2):
        result = builders.run(SBOM, "spark", **settings)
        assert result.returncode == 0, result.stderr
    called = " ".join(builders.called())
    assert called.count("go install github.com/anchore/syft/cmd/syft@v") == 1
    assert called.count("scanned") == 2


def test_sbom_of_an_image_that_is_not_built_says_what_to_do(builders, tmp_path):
    builders.program("syft")
    builders.program("docker", '[[ "$1" != save ]] || { echo "no such image" >&2; exit 1; }')
    result = builders.run(SBOM, "spark", SBOM_DIRECTORY=str(tmp_path))
    assert result.returncode == 1
    assert "millrace/spark:" in result.stderr
    assert "(no such image): build it first with `make images`." in result.stderr
    assert "syft" not in builders.called()
