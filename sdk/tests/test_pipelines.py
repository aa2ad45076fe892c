"""Pipelines: processors one after the other under a name, from the settings to a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos import Client, Pipeline, Step, load_settings, read_options
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig, hookimpl
from llmos_kernel.errors import ConfigError, InvalidArgument, PluginFailed, PluginMissing
from llmos_kernel.services import Processor, TextFilter
from sdk.tests.cli import CommandLine


@attrs.frozen(kw_only=True)
class Options:
    """What `Tagger` can be told."""

    tag: str = "!"


@attrs.frozen
class Tag(Processor):
    """Appends a tag."""

    options: Options

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:
        """Append it; refuse what is no text, in a way that no processor should."""
        return value + self.options.tag


class Tagger:
    """A processor plugin with options."""

    name = "tag"

    @hookimpl
    def llmos_processor(self, config: Mapping[str, Any]) -> Processor:
        """Return a processor."""
        return Tag(read_options(Options, config, "processor:tag"))


class Upper(Processor):
    """Writes large, piece by piece."""

    name = "upper"

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:
        """Write large."""
        return value.upper()

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Hold the last character back."""
        return _Late()


class _Late(TextFilter):
    held = ""

    def feed(self, text: str) -> str:
        whole = self.held + text.upper()
        self.held = whole[-1:]
        return whole[:-1]

    def end(self) -> str:
        return self.held


PLUGINS = (Tagger(), Upper())
CONFIG = KernelConfig(models=(echo_spec(),), options={"processor:tag": {"tag": "#"}})


def pipeline(*steps: object, name: str = "mine") -> Pipeline:
    """Return a pipeline of the processors above."""
    return Pipeline(name, steps, CONFIG, PLUGINS)


def test_one_after_the_other() -> None:
    """The text passes the steps in order; a step's own options win over the configuration's, for that step alone."""
    made = pipeline("tag", {"processor": "tag", "tag": "b"}, "upper", Step("tag", {"tag": "c"}), "tag")

    assert "A#Bc#" == made.process("a", {})


def test_in_pieces() -> None:
    """The filter gives the same as the whole, and what one step holds back passes the steps behind it."""
    stage = pipeline("upper", "upper").filter({})
    given = [stage.feed("ab"), stage.feed("cd"), stage.end()]

    assert ["", "AB", "CD"] == given


def test_missing_processor() -> None:
    """One error names the pipeline, the step, and the nearest processor that there is."""
    with pytest.raises(
        PluginMissing, match=r"pipeline 'mine', step 2: no processor .* 'taag'; did you mean 'tag'"
    ) as e:
        pipeline("upper", "taag").process("a", {})

    assert ("mine", 2) == (e.value.fields["pipeline"], e.value.fields["step"])


def test_wrong_option_of_a_step() -> None:
    """It is the processor's own error, and says which step."""
    with pytest.raises(ConfigError, match="step 1: processor:tag has no option 'tog'; the nearest is 'tag'"):
        pipeline({"processor": "tag", "tog": "x"}).process("a", {})


@pytest.mark.parametrize(
    "use", [lambda made: made.process(7, {}), lambda made: made.filter({}).end()], ids=["whole", "in pieces"]
)
def test_processor_that_raises(use: Callable[[Pipeline], object]) -> None:
    """What a processor should not raise names the processor, not the pipeline."""

    class Wrong(_Late, Processor):
        name = "tag"

        def process(self, value: Any, params: Mapping[str, Any]) -> Any:
            return value + "x"

        def filter(self, params: Mapping[str, Any]) -> TextFilter:
            return self

        def end(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(PluginFailed, match=r"processor:tag raised in (process|filter)"):
        use(Pipeline("mine", ["tag"], CONFIG, [Wrong()]))


@pytest.mark.parametrize(
    ("steps", "field"),
    [("tag", "steps"), ([], "steps"), ([7], "steps[0]"), (["a", {"name": "b"}], "steps[1]"), (["", "a"], "steps[0]")],
)
def test_what_is_no_list_of_steps(steps: object, field: str) -> None:
    """The error names the step and what would be right."""
    with pytest.raises(InvalidArgument) as caught:
        Pipeline("mine", steps)

    assert field == caught.value.fields["field"]


def test_a_task_names_it() -> None:
    """To a kernel that is given it, a pipeline is a processor, before and after the model."""
    plugins = (EchoBackend(), FirstComePlugin(), pipeline("tag", name="in"), pipeline("upper", "tag", name="out"))
    with Kernel(CONFIG, plugins=plugins) as kernel, Client(kernel=kernel) as client:
        answer = client.load_model("echo").generate_text("hello", pre="in", post="out")

    assert "HELLO##" == answer


def test_settings(tmp_path: Path) -> None:
    """The file names pipelines; what is wrong in it is an error with its place."""
    file = tmp_path / "llmos.toml"
    file.write_text('[pipelines]\ntidy = ["upper", {processor = "tag", tag = "?"}]\n', "utf-8")
    (tidy,) = load_settings(file, environ={}).pipelines

    assert ("tidy", (Step("upper"), Step("tag", {"tag": "?"}))) == (tidy.name, tidy.steps)
    file.write_text('[pipelines]\ntidy = ["upper", 7]\n', "utf-8")
    with pytest.raises(ConfigError, match=r"pipelines\.tidy\[1\] must be a processor's name") as caught:
        load_settings(file, environ={})
    assert str(file) == caught.value.fields["source"]


def test_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], echo: EchoBackend, tmp_path: Path
) -> None:
    """`llmos config check` finds a processor that is not there before a task does."""
    monkeypatch.chdir(tmp_path)
    settings = 'plugins = []\n[pipelines]\ntidy = ["uper"]\n'
    done = CommandLine(echo, monkeypatch, capsys, settings)("config", "check")

    assert 2 == done.code
    assert "pipelines.tidy[0]: no processor plugin" in done.out
