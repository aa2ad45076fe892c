"""Six ways in which a plugin fails, each with the outcome that the contract gives it, through the command line."""

from __future__ import annotations

import pytest

from tests.plugin_failures.fakes import Installation, add_all, processor

PROMPT = ("generate", "The quick brown fox", "--max-tokens", "4")
SYMPTOMS = {
    "fake-explodes": ["boom at import"],
    "fake-needy": ["a-package-that-nobody-has", "pip install"],
    "fake-ancient": ["llmos-kernel>=99"],
    "fake-thief": ["normalize", "llmos-data", "fake-thief"],
    "fake-misspelt": ["llmos_proccessor", "llmos_processor"],
}
STATES = [
    ("fake-needy", "processor:needy", "failed"),
    ("fake-ancient", "processor:ancient", "incompatible"),
    ("fake-thief", "processor:normalize", "failed"),
    ("llmos-data", "processor:normalize", "failed"),
    ("fake-explodes", "processor:explodes", "discovered"),
    ("fake-misspelt", "processor:misspelt", "discovered"),
]


@pytest.fixture
def broken(installation: Installation) -> Installation:
    """An installation with all of them."""
    add_all(installation)
    return installation


def test_generate_works_beside_them(broken: Installation) -> None:
    """Plugins that nobody asked for do not stand in the way, whatever is wrong with them."""
    done = broken.llmos(*PROMPT)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", SYMPTOMS)
def test_doctor_explains(name: str, broken: Installation) -> None:
    """The doctor names each plugin that is not usable and says why, in words that lead to the cure."""
    done = broken.llmos("doctor")
    said = " ".join(done.stdout.split())

    assert [word for word in [name, *SYMPTOMS[name]] if word not in said] == []
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_explains_a_policy_that_raises(broken: Installation) -> None:
    """A policy that raises is found by asking it, before a user finds out."""
    broken.configure('plugins = ["*"]\npolicies = ["grumpy"]')
    done = broken.llmos("doctor")

    assert ("grumpy" in done.stdout, "not in the mood" in done.stdout) == (True, True)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("distribution", "plugin", "state"), STATES)
def test_listing_imports_none(distribution: str, plugin: str, state: str, broken: Installation) -> None:
    """What metadata can tell is told without running anybody's code; what only an import can tell is not guessed."""
    assert state == broken.state(distribution, plugin)


@pytest.mark.parametrize("name", ["explodes", "needy", "ancient", "normalize", "misspelt"])
def test_asking_for_a_broken_one_fails_naming_it(name: str, broken: Installation) -> None:
    """Who asks for a processor that is not usable gets one error that names it, not a result without it."""
    done = broken.llmos(*PROMPT, "--post", name)

    assert done.returncode != 0
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_another_version_of_the_contract(installation: Installation) -> None:
    """A plugin that states another `api` than the kernel's is refused when it is chosen."""
    installation.add("fake-future", "processor:future", processor(api=99))
    done = installation.llmos(*PROMPT, "--post", "future")

    assert done.returncode != 0
    assert ("future" in done.stderr, "99" in done.stderr) == (True, True)


def test_a_policy_that_raises_denies(broken: Installation) -> None:
    """An exception in a policy is a denial: nothing is generated, and the error names the policy."""
    broken.configure('plugins = ["*"]\npolicies = ["grumpy"]')
    done = broken.llmos(*PROMPT)

    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "grumpy" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_policy_that_is_not_installed_denies(installation: Installation) -> None:
    """A policy that is configured and missing keeps the kernel from starting: fewer policies are never the answer."""
    installation.configure('plugins = ["*"]\npolicies = ["absent"]')
    done = installation.llmos(*PROMPT)

    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "absent" in done.stderr


def test_blocking_one_side_settles_a_clash(broken: Installation) -> None:
    """A name that is claimed twice is free again when one of the two is blocked."""
    broken.configure('plugins = ["*"]\nblocked = ["fake-thief"]')

    assert "blocked" == broken.state("fake-thief", "processor:normalize")
    assert "discovered" == broken.state("llmos-data", "processor:normalize")


def test_doctor_still_answers_when_the_configuration_is_wrong(installation: Installation) -> None:
    """The command that helps when nothing works says what is wrong with the configuration."""
    installation.configure("plugin = []")
    done = installation.llmos("doctor")

    assert "plugin" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
