"""What is trained where nothing is said, what is said on the command line, and what cannot be read."""

import dataclasses
import json

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_train import cli
from ssn_train.network.design import PAPER, Design
from ssn_train.options import defaults
from ssn_train.options.recipe import Recipe
from ssn_train.options.settings import Settings, presets

LEAN = Design(("block5", "block6"), None, 2, 1024, 0, 5, False)


def asked(*arguments, data=None):
    """The settings that a command line ends in, before anything is read or trained."""
    found = {}

    class Caught(Exception):
        pass

    def check(task, dataset, all_ablations):
        found["all"] = [task.settings_of(cell) for cell in task.cells]
        raise Caught

    with pytest.MonkeyPatch.context() as patch:
        from ssn_train.training import many_runs

        patch.setattr(many_runs, "check", check)
        words = [str(word) for word in (data, *arguments)]
        result = CliRunner().invoke(cli.main, words)
    if isinstance(result.exception, Caught):
        return found["all"]
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Names of photos; no one reads them."""
    folder = tmp_path_factory.mktemp("photos") / "good"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").touch()
    return folder.parent


@pytest.fixture
def settings_of(data):
    def settings_of(*arguments):
        (found,) = asked(*arguments, data=data)
        return found

    return settings_of


def design(settings, supervised=False):
    return Design(**settings.settled(supervised).design(Recipe()))


def test_the_default_backbone_trains_lean(settings_of):
    settings = settings_of()
    assert (settings.trainer, settings.steps, settings.rate_scale) == ("positions", 1000, 3.0)
    assert design(settings) == LEAN
    assert settings.settled(False).verdict_source == "map_max"


def test_with_labelled_defects_a_classification_head_judges(settings_of):
    settings = settings_of()
    assert design(settings, supervised=True) == dataclasses.replace(LEAN, cls_width=128)
    assert settings.settled(True).verdict_source == "score"


@pytest.mark.parametrize("source", ["score", "either"])
def test_a_classification_head_is_trained_where_it_is_to_judge(settings_of, source):
    settings = settings_of("--verdict-source", source)
    assert design(settings).cls_width == 128 and settings.settled(False).verdict_source == source


def test_the_map_judges_where_it_is_to(settings_of):
    settings = settings_of("--verdict-source", "map_max").settled(True)
    assert (settings.cls_width, settings.verdict_source) == (128, "map_max")


def published(settings):
    """Everything of the paper's section 4.3 and of its network; but for the length."""
    assert (settings.trainer, settings.batch, settings.rate_scale) == ("photos", 32, 1.0)
    assert settings.verdict_source == "score" and settings.budget is None
    for supervised in (False, True):
        assert design(settings, supervised) == PAPER and settings.settled(supervised) == settings
    return settings


@pytest.mark.parametrize("arguments", [
    ("--published",), ("--trainer", "photos"), ("--backbone", "wide_resnet50_2"), ("--backbone", "resnet18"),
    ("--ablation", "no_cls"), ("--ablation", "ours"), *(("--preset", name) for name in sorted(presets())),
    ("--preset", "mvtec", "--backbone", "efficientnet_lite0"),
])
def test_the_papers_recipe(settings_of, data, arguments):
    if "tiles" in arguments or "sensum" in arguments:
        arguments = (*arguments, "--folds", "0")  # of a plain folder
    settings = published(settings_of(*arguments))
    assert (settings.steps, settings.epochs) == (None, 300)


def test_every_ablation_is_of_the_papers_run(data):
    found = asked("--ablation", "all", data=data)
    assert len(found) == 10 and {published(settings).epochs for settings in found} == {300}


def test_what_is_given_wins(settings_of):
    settings = settings_of(
        "--levels", "8, block4 ,16", "--grid", "20x24", "--seg-width", "64", "--cls-width", "3",
        "--cls-kernel", "1", "--adaptor", "--batch", "6", "--lr-scale", "2", "--steps", "70",
    )
    assert design(settings) == Design(("8", "block4", "16"), (20, 24), 2, 64, 3, 1, True)
    assert (settings.batch, settings.rate_scale, settings.steps) == (6, 2.0, 70)
    settings = settings_of("--published", "--no-adaptor", "--grid", "1x", "--cls-width", "0", "--epochs", "3")
    assert design(settings) == Design(scale=1, cls_width=0, adaptor=False)
    assert (settings.epochs, settings.settled(False).verdict_source) == (3, "map_max")
    assert design(settings_of("--grid", "24")).grid == (24, 24)


def test_positions_for_any_backbone(settings_of):
    settings = settings_of("--backbone", "resnet18", "--trainer", "positions")
    assert design(settings) == dataclasses.replace(PAPER, cls_width=0, adaptor=False)
    assert (settings.trainer, settings.steps, settings.batch) == ("positions", 1000, 8)


@pytest.mark.parametrize("arguments, expected", [
    ((), (1000, 300, None)),
    (("--steps", "40"), (40, 300, None)),
    (("--epochs", "7"), (None, 7, None)),
    (("--budget", "10m"), (None, 300, 600.0)),
    (("--published", "--budget", "2h"), (None, 300, 7200.0)),
    (("--preset", "mvtec", "--budget", "60s"), (None, 300, 60.0)),  # its epochs were not asked for
    (("--preset", "mvtec", "--steps", "9"), (9, 300, None)),
])
def test_lengths(settings_of, arguments, expected):
    settings = settings_of(*arguments)
    assert (settings.steps, settings.epochs, settings.budget) == expected


@pytest.mark.parametrize("text, expected", [
    ("90", 90), ("60s", 60), (" 1.5m ", 90), ("10min", 600), ("2h", 7200), ("1e3", 1000), (".5h", 1800),
])
def test_times(text, expected):
    assert defaults.seconds("--budget", text) == expected


@pytest.mark.parametrize("text", [
    "", "abc", "-5s", "0", "0s", "1e99h", "nan", "inf", "s", "5d", "1h30m", "60S", "1,5m",
])
def test_what_is_no_time(text):
    with pytest.raises(InputError, match=r"^--budget .*: give a time such as 60s, 10m or 2h$"):
        defaults.seconds("--budget", text)


@given(st.text(max_size=8))
def test_any_text_is_a_time_or_one_line(text):
    try:
        assert 0 < defaults.seconds("--budget", text) < 1e7
    except InputError as error:
        assert str(error).startswith("--budget ")


@pytest.mark.parametrize("arguments, expected", [
    (("--budget", "abc"), "--budget abc: give a time"),
    (("--budget", "-5s"), "--budget -5s: give a time"),
    (("--budget", "0"), "--budget 0: give a time"),
    (("--budget", "1e99h"), "--budget 1e99h: give a time"),
    (("--budget", "60s", "--steps", "5"), "--budget and --steps: both are the length; give one"),
    (("--budget", "60s", "--epochs", "5"), "--budget and --epochs: both"),
    (("--preset", "mvtec", "--budget", "60s", "--epochs", "5"), "--budget and --epochs: both"),
    (("--grid", "2x2"), "--grid 2x2: at least 4x4"),
    (("--grid", "4x3"), "--grid 4x3: at least"),
    (("--grid", "0x5"), "--grid 0x5: give HEIGHTxWIDTH"),
    (("--grid", "3x"), "--grid 3x: give"),
    (("--grid", "x"), "--grid x: give"),
    (("--grid", "99999x99999"), "--grid 99999x99999: finer than the photos' 256x256"),
    (("--grid", "257x64"), "finer than the photos'"),
    (("--cls-kernel", "4"), "--cls-kernel 4: give an odd number"),
    (("--cls-kernel", "0"), "not in the range"),
    (("--seg-width", "0"), "not in the range"),
    (("--cls-width", "-1"), "not in the range"),
    (("--cls-width", "0", "--verdict-source", "score"), "--verdict-source score: --cls-width 0 leaves no"),
    (("--cls-width", "0", "--verdict-source", "either"), "--verdict-source either: --cls-width 0 leaves no"),
    (("--trainer", "positions", "--plain"), "--plain: of steps on whole photos; give --trainer photos"),
    (("--bfloat16",), "--bfloat16: of steps on whole photos; give --trainer photos"),
    (("--trainer", "positions", "--published"), "--published and --trainer positions"),
    (("--trainer", "positions", "--ablation", "no_cls"), "--ablation: of steps on whole photos"),
    (("--trainer", "stripes"), "is not one of"),
])
def test_what_cannot_be_is_one_line(data, arguments, expected):
    output = asked(*arguments, data=data)
    (line,) = [line for line in output.splitlines() if line.lower().startswith("error")]
    assert expected in line
    assert [path.name for path in data.iterdir()] == ["good"]


def test_every_default_is_a_choice_on_the_command_line():
    """And none of the others is a setting without a default."""
    fields = {field.name for field in dataclasses.fields(Settings)}
    options = {parameter.name for parameter in cli.main.params if isinstance(parameter, click.Option)}
    assert set(defaults.PUBLISHED) - {"scale"} <= options and set(defaults.POSITIONS) <= fields
    for name, chosen in defaults.LEAN.items():
        assert set(chosen) <= fields, name


# --- Runs from before ----------------------------------------------------------------------------

NEW = ("trainer", "levels", "grid", "scale", "seg_width", "cls_width", "cls_kernel", "adaptor", "budget")


def before(settings):
    """As a run wrote its settings when there was nothing to choose, through JSON."""
    stored = json.loads(json.dumps(settings.to_dict()))
    return {name: value for name, value in stored.items() if name not in NEW}


def test_a_run_from_before_is_the_papers_and_no_other(settings_of):
    old = before(settings_of("--published"))
    settings_of("--published").check_same(old)
    settings_of("--trainer", "photos").check_same(old)
    with pytest.raises(InputError, match=r"trainer is positions, .* with photos \(--trainer photos\); give"):
        settings_of().check_same(old)
    for arguments in (("--seg-width", "512"), ("--levels", "8,32"), ("--no-adaptor",), ("--budget", "60s")):
        with pytest.raises(InputError, match=arguments[0].strip("-").replace("-", "_").replace("no_", "")):
            settings_of("--published", *arguments).check_same(old)


@pytest.mark.parametrize("arguments", [
    (), ("--cls-width", "0"), ("--cls-width", "128"), ("--verdict-source", "score"), ("--grid", "8x9"),
    ("--grid", "1x"), ("--levels", "8,16"), ("--budget", "1m"), ("--published",), ("--adaptor",),
    ("--cls-kernel", "3"), ("--steps", "5"),
])
def test_an_interrupted_run_goes_on_with_its_options_alone(settings_of, arguments):
    """Also what depends on the photos: a head that was asked for is not one that follows from defects."""
    stored = json.loads(json.dumps(settings_of(*arguments).to_dict()))
    settings_of(*arguments).check_same(stored)
    for other in ((), ("--seg-width", "7"), ("--cls-width", "64"), ("--verdict-source", "map_max")):
        if other != arguments:
            with pytest.raises(InputError, match="the run was started with .*give the same options"):
                settings_of(*other).check_same(stored)
