"""Networks, data sets, losses and shapes of installed packages, and of classes made in Python."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import studies
from dynloss_core.config import ConfigError
from search_spaces.documents import dump_document
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.storage.stored_study import StoredStudy
from tests.studies.definition.signal_nets import NETS
from tests.studies.installed import installed as package_in
from tests.studies.sessions import begun
from tests.studies.tiny import tiny_document, tiny_study

SHAPE = """
SHAPES = {"flat_top": lambda tau, period: (tau >= period // 2).double()}
"""
POINTS = """\
[dynloss.models]
signal_net = {package}.nets:SignalNet
[dynloss.data]
signals = {package}.nets:Signals
[dynloss.shapes]
flat_top = {package}.nets:SHAPES
"""


pytestmark = pytest.mark.usefixtures("own_imports")


def installed(folder: Path, package: str = "signal_kit", points: str = POINTS) -> Path:
    """The package of the signals' nets, in a folder on the path."""
    return package_in(folder, NETS + SHAPE, points, package)


def study_of(folder: Path, **changes: object) -> Path:
    named: dict[str, object] = {"data": {"name": "signals"}, "model": {"name": "signal_net"}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(dump_document(tiny_document(**{**named, **changes})))
    return folder / "mine.yaml"


def test_a_study_names_what_a_package_defines(tmp_path: Path) -> None:
    installed(tmp_path / "site")
    study = load_study(study_of(tmp_path))
    assert [each.file for each in study.plugins] == ["nets.py"], "one file, for both names"
    assert type(study.model).__name__ == "SignalNet"
    again = load_study(study_of(tmp_path))
    assert again.hash == study.hash, "also once its names are known in this process"
    stored = begun(study, tmp_path / "out")
    assert (stored.folder.path / "plugins" / "nets.py").read_text() == NETS + SHAPE


@pytest.mark.slow
def test_a_begun_study_does_not_need_the_package(tmp_path: Path) -> None:
    installed(tmp_path / "site")
    stored = begun(load_study(study_of(tmp_path)), tmp_path / "out")
    code = (
        "import sys; from pathlib import Path\n"
        "from studies.storage.stored_study import StoredStudy\n"
        "from studies.storage.study_folder import StudyFolder\n"
        "print(StoredStudy.read(StudyFolder(Path(sys.argv[1]))).study.hash)"
    )
    words = [sys.executable, "-c", code, str(stored.folder.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == stored.study.hash


def test_a_shape_of_an_arm_and_among_choices(tmp_path: Path) -> None:
    installed(tmp_path / "site")
    plain = {"data": {"name": "spirals"}, "model": {"name": "mlp", "width": 4}}
    arms = {
        "static": {"baseline": True},
        "flat": {"training": {"oscillation": {"shape": "flat_top"}}},
    }
    study = load_study(study_of(tmp_path, **plain, arms=arms))
    assert [each.file for each in study.plugins] == ["nets.py"]
    assert study.problem("flat").oscillation.shape == "flat_top"
    unneeded = load_study(study_of(tmp_path, **plain))
    assert unneeded.plugins == (), "what a study does not name does not count in it"


def test_a_file_of_the_study_comes_first(tmp_path: Path) -> None:
    installed(tmp_path / "site")
    (tmp_path / "mine.py").write_text(NETS)
    study = load_study(study_of(tmp_path, plugins=["./mine.py"]))
    assert [each.file for each in study.plugins] == ["mine.py"]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (
            "[dynloss.models]\nsignal_net = {package}.nets:Missing\n[dynloss.data]\n"
            "signals = {package}.nowhere:Signals\n",
            "data.name: signal_kit.nowhere, in which signal_kit defines 'signals', has no Python",
        ),
        (
            "[dynloss.data]\nsignals = {package}:Signals\n",
            "data.name: defines no network, data set, loss, shape or analysis",
        ),
        (
            "[dynloss.data]\nsignals = {package}.nets:Signals\n[dynloss.models]\n"
            "signal_net = {package}.nets:Net\nother_net = {package}.nets:Net\n",
            "model.name: signal_kit offers 'other_net', but signal_kit.nets defines no such netw",
        ),
        ("[dynloss.data]\nsignals = nowhere_at_all.x:Signals\n", "is not imported: No module"),
    ],
)
def test_what_a_package_says_wrongly_is_refused(points: str, words: str, tmp_path: Path) -> None:
    installed(tmp_path / "site", points=points)
    name = "other_net" if "other_net" in points else "signal_net"
    with pytest.raises(ConfigError) as refused:
        load_study(study_of(tmp_path, model={"name": name}))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    installed(tmp_path / "a")
    installed(tmp_path / "b", "other_kit")
    with pytest.raises(ConfigError, match="offered by several packages: other_kit, signal_kit"):
        load_study(study_of(tmp_path))


def test_objects_of_an_imported_file_bring_it_along(tmp_path: Path) -> None:
    (tmp_path / "own_nets.py").write_text(NETS)
    sys.path.insert(0, str(tmp_path))
    own = importlib.import_module("own_nets")
    study = tiny_study().with_(data=own.Signals(samples=24), model=own.SignalNet(channels=3))
    assert [each.file for each in study.plugins] == ["own_nets.py"]
    assert study.data.training_samples == 24
    stored = begun(study, tmp_path / "out")
    assert StoredStudy.read(stored.folder).study.hash == study.hash
    document = {
        **tiny_document(),
        "data": own.Signals(samples=24),
        "model": own.SignalNet(channels=3),
    }
    assert studies.load(document).hash == study.hash
    wider = study.with_(model=type(study.model)(channels=5))  # type: ignore[call-arg]
    assert [each.file for each in wider.plugins] == ["own_nets.py"], "it is there once"
    named = tiny_study().with_(
        plugins=[str(tmp_path / "own_nets.py")],
        model={"name": "signal_net"},
        data={"name": "signals"},
    )
    assert type(named.model).__name__ == "SignalNet"


def test_a_class_without_a_file_is_refused() -> None:
    """A worker could not have it, and a script as a plug-in would start its study again."""
    code = (
        NETS + "\nfrom tests.studies.tiny import tiny_study\n"
        "from dynloss_core.config import ConfigError\n"
        "try:\n    tiny_study().with_(model=SignalNet())\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "model: class SignalNet was not imported from a file" in done.stdout
    assert "from nets import" in done.stdout


def test_the_suite_s_own_classes_need_no_file() -> None:
    study = tiny_study()
    assert isinstance(study, Study)
    assert study.with_(model=study.model, data=study.data).plugins == ()
