"""Networks and data sets of one's own, from a file."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.config import ConfigError, config_hash
from dynloss_core.plugins import read_plugin
from search_spaces.documents import dump_document, read_document
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.storage.begun import Begun
from studies.storage.reuse import KnownNetworks
from studies.storage.stored_study import StoredStudy
from tests.core.data.photos import write_photos
from tests.studies.commands import dynloss, dynloss_here
from tests.studies.definition.signal_nets import NETS
from tests.studies.sessions import begun, finish, session_of
from tests.studies.tiny import tiny_document


def written(folder: Path, text: str = NETS, **changes: object) -> Path:
    """A study beside its plug-in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(text)
    document = tiny_document(
        plugins=["./nets.py"], data={"name": "signals"}, model={"name": "signal_net"}, **changes
    )
    (folder / "mine.yaml").write_text(dump_document(document))
    return folder / "mine.yaml"


def test_a_study_of_one_s_own_network_and_data_ends_with_a_verdict(tmp_path: Path) -> None:
    study = load_study(written(tmp_path / "project"))
    out = tmp_path / "out"
    finish(session_of(study, out))
    folder = begun_again(study, out).folder
    write_results(StoredStudy.read(folder))
    summary = json.loads(folder.summary.read_text())
    assert summary["verdicts"][0]["test"]["outcome"]
    assert (folder.path / "plugins" / "nets.py").read_text() == NETS


def begun_again(study: Study, out: Path) -> StoredStudy:
    from studies.storage.study_folder import StudyFolder

    return StoredStudy.begin(StudyFolder.of(study, out), study, resume=True)


@pytest.mark.slow
def test_the_study_s_folder_is_complete(tmp_path: Path) -> None:
    """Another process reads it after the file it came from is gone."""
    path = written(tmp_path / "project")
    stored = begun(load_study(path), tmp_path / "out")
    for each in path.parent.iterdir():
        each.unlink()
    code = (
        "import sys; from pathlib import Path\n"
        "from studies.storage.stored_study import StoredStudy\n"
        "from studies.storage.study_folder import StudyFolder\n"
        "study = StoredStudy.read(StudyFolder(Path(sys.argv[1]))).study\n"
        "print(study.hash, type(study.model).__name__)"
    )
    command = [sys.executable, "-c", code, str(stored.folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [stored.study.hash, "SignalNet"]


@pytest.mark.slow
def test_a_pickled_study_brings_its_plugins(tmp_path: Path) -> None:
    """As a worker gets it, on a machine that has none of the files."""
    study = load_study(written(tmp_path))
    (tmp_path / "study.pickle").write_bytes(pickle.dumps(study))
    (tmp_path / "nets.py").unlink()
    code = (
        "import pickle, sys; study = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(study.hash, study.problem('static').model.build((16,), 3)[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "study.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{study.hash} BatchNorm1d(4")


def test_another_text_is_another_network(tmp_path: Path) -> None:
    """The same keys and values: but neither its study nor its networks are the same."""
    first = load_study(written(tmp_path / "a"))
    before = config_hash(first.problem(keys.STATIC)), first.hash
    second = load_study(written(tmp_path / "b", NETS.replace("nn.ReLU()", "nn.Tanh()")))
    assert config_hash(second.problem(keys.STATIC)) != before[0]
    assert second.hash != before[1]
    stored = begun(load_study(written(tmp_path / "a")), tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"plugins is nets.py \([0-9a-f]{12}\) there and nets.py "
    ):
        begun_again(second, tmp_path / "out")
    assert Begun.read(stored.folder.begun) is not None


def test_networks_of_another_text_are_not_reused(tmp_path: Path) -> None:
    study = load_study(written(tmp_path / "a"))
    finish(session_of(study, tmp_path / "out"))
    same = load_study(written(tmp_path / "b", name="again"))
    block = session_of(same, tmp_path / "out", reuse=True).plan.next_block()
    assert block is not None
    assert KnownNetworks(begun_again(same, tmp_path / "out")).known_trials(block)
    other = load_study(written(tmp_path / "c", NETS.replace("ReLU", "Tanh"), name="other"))
    assert not KnownNetworks(begun_again(other, tmp_path / "out")).known_trials(block)


def test_an_older_text_is_read_again_beside_a_newer_one(tmp_path: Path) -> None:
    stored = begun(load_study(written(tmp_path / "a")), tmp_path / "out")
    load_study(written(tmp_path / "b", NETS.replace("ReLU", "Tanh")))
    again = StoredStudy.read(stored.folder).study
    assert again.hash == stored.study.hash
    assert type(again.model) is type(stored.study.model)


@pytest.mark.slow
def test_on_ray_it_is_trained_alike(tmp_path: Path) -> None:
    """Workers get the plug-in with the study, and interrupted or not the tables are the same."""
    path = written(tmp_path / "project")
    done = dynloss("run", path, "--out", tmp_path / "ray")
    assert done.returncode == 0, done.stderr
    study = load_study(path)
    finish(session_of(study, tmp_path / "here"))
    tables = []
    for out in ("ray", "here"):
        stored = begun_again(study, tmp_path / out)
        members = stored.folder.parts.gather("members")
        by = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
        tables.append(members.sort_values(by)[[*by, keys.CONFIG_HASH, keys.TEST_LOSS]])
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in tables))


@pytest.mark.slow
def test_an_edited_copy_is_refused(tmp_path: Path) -> None:
    stored = begun(load_study(written(tmp_path / "project")), tmp_path / "out")
    copy = stored.folder.path / "plugins" / "nets.py"
    copy.write_text(NETS.replace("ReLU", "Sigmoid"))
    done = dynloss("status", stored.folder.path)
    assert done.returncode == 2
    assert "nets.py: was edited; put back the file that the study started with" in done.stderr
    copy.unlink()
    assert "no such plug-in" in dynloss("status", stored.folder.path).stderr


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to give away")
def test_a_plugin_of_another_user_is_not_run(tmp_path: Path) -> None:
    stored = begun(load_study(written(tmp_path / "project")), tmp_path / "out")
    os.chown(stored.folder.path / "plugins" / "nets.py", 1234, 1234)
    done = dynloss("status", stored.folder.path)
    assert done.returncode == 2
    assert "belongs to another user, and reading the study would run it" in done.stderr


def test_an_option_adds_one(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    done = dynloss_here(
        "show", "quickstart", "--plugin", tmp_path / "nets.py", "--set", "model={name: signal_net}",
        "--set", "data={name: signals}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "file: nets.py" in done.stdout


SAME = "    name: Literal['mlp'] = 'mlp'\n"
BAD = {
    "no Python": ("def (:\n", r"nets.py:1: is not valid Python: invalid syntax"),
    "an error in it": ("x = 1\ny = 1 / 0\n", "nets.py:2: does not run: ZeroDivisionError: division by"),
    "an import that is missing": ("import no_such_module\n", "nets.py:1: does not run: ModuleNotFoundError"),
    "nothing": ("x = 1\n", "nets.py: defines no network, data set, loss, shape or analysis; define a frozen dataclass"),
    "a built-in name": (NETS.replace('"signal_net"', '"mlp"'), "the name 'mlp' is built in; choose another"),
    "no name": (NETS.replace('    name: Literal["signal_net"] = "signal_net"\n', ""), "SignalNet does not begin with its name"),
    "not frozen": (NETS.replace("frozen=True", ""), "SignalNet is not frozen; write @dataclass"),
    "one name twice": (
        NETS + NETS.partition("@dataclass")[1] + NETS.partition("@dataclass")[2].replace("SignalNet", "Other"),
        "defines 'signal_net' twice, the second time by class Other; choose another name",
    ),
    "an exit": ("import sys; sys.exit(0)\n", "nets.py:1: does not run: SystemExit: 0"),
    "a type that is nowhere": (NETS.replace("channels: int", "channels: Nowhere"), "a type in class SignalNet is unknown"),
    "a file beside itself": ("print(__file__)\n", "name '__file__' is not defined"),
    "too large": ("#" * 1_000_001, "nets.py: is too large"),
    "half a data set": (NETS.replace("num_classes: int = 3", "classes: int = 3"), "Signals has no 'num_classes'"),
    "no mapping": ("import os\n\nANALYSES = 3\n", "nets.py:3: ANALYSES is not a mapping"),
    "no function": ("LOSSES = {}\nSHAPES: dict = {\n    'a': abs,\n    'b': 4,\n}\n", "nets.py:4: SHAPES['b'] is not a function"),
    "no mapping by any line": ("globals()['LOSSES'] = 3\n", "nets.py: LOSSES is not a mapping"),
    "a taken name in a mapping": ("SHAPES = dict(sine=abs)\n", "nets.py:1: the name 'sine' is built in"),
}  # fmt: skip
OF_THE_WHOLE = {"nothing", "too large", "no mapping by any line"}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    text, said = BAD[case]
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_study(path)
    message = str(error.value)
    assert said in message
    assert "\n" not in message
    where = re.match(re.escape(str(tmp_path / "nets.py")) + r"(:(\d+))?: ", message)
    assert where is not None
    assert (where[2] is None) == (case in OF_THE_WHOLE)
    if re.search("Other|SignalNet|Signals", message):  # names a class: its last definition
        culprit = re.search(r"\b(Other|SignalNet|Signals)\b", message)
        assert culprit is not None
        assert f"class {culprit[1]}" in text.splitlines()[int(where[2]) - 1]


def test_a_plugin_that_is_not_there_is_named_where_the_study_names_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "nets.py").unlink()
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "nets.py" in text)
    with pytest.raises(ConfigError, match=rf"mine.yaml:{line}: plugins\[0\]: there is no file "):
        load_study(path)
    (tmp_path / "more.py").write_text(NETS)
    with pytest.raises(ConfigError, match=rf"mine.yaml:{line}: plugins\[0\]: there is no file "):
        load_study(path, plugins=[tmp_path / "more.py"])
    with pytest.raises(ConfigError, match=r"less\.py: no such plug-in; check the path"):
        load_study(path, plugins=[tmp_path / "less.py"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("input_shape[0] - 4", "input_shape[0] - 3"), "'signal_net' fails on inputs (N, 16): "),
        (
            ("def build(self, input_shape", "def build(self, more, input_shape"),
            "'signal_net' cannot be built: TypeError: ",
        ),
        (
            ("- 4), num_classes)", "- 4), 7)"),
            "'signal_net' returns (2, 7) for 2 samples of 3 classes",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_it_starts(
    tmp_path: Path, changes: tuple[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_study(written(tmp_path, NETS.replace(*changes)))
    assert "mine.yaml:" in str(error.value)
    assert f": model: {said}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_plugin_is_checked(tmp_path: Path) -> None:
    """Its contracts, a line each, and which engines take it."""
    (tmp_path / "nets.py").write_text(NETS)
    done = dynloss("check", tmp_path / "nets.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "network signal_net, on signals" in done.stdout
    assert re.search(
        r"engine fused .* no: it only trains networks with one hidden layer", done.stdout
    )
    assert re.search(r"engine autograd \(torch's autograd, for any network\).* yes\n", done.stdout)
    assert re.search(r"what is loaded is what was declared +yes", done.stdout)
    (tmp_path / "nets.py").write_text(
        NETS.replace("manual_seed(seed)", "manual_seed(id(object()))")
    )
    done = dynloss("check", tmp_path / "nets.py")
    assert done.returncode == 1
    assert re.search(r"one seed is one draw +FAILED: ", done.stdout)


FLAT = """\
import math
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Flat:
    name: Literal["flat"] = "flat"

    def build(self, input_shape, num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_classes))
"""


def test_a_network_is_checked_on_data_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(FLAT)
    write_photos(tmp_path / "photos")
    rows = "".join(f"{i * 37 % 60},{i % 2},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "own.csv").write_text("x,y,kind\n" + rows)
    table = f"{{name: table, path: {tmp_path / 'own.csv'}, target: kind}}"
    for data, name in ((tmp_path / "photos", "folder"), (table, "table")):
        done = dynloss_here("check", tmp_path / "nets.py", "--data", data)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"network flat, on {name}" in done.stdout
        assert re.search(r"agrees or refuses +yes", done.stdout)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nothing", "no data set 'nothing'; write one of: spirals, digits"),
        ("folder", "no data set 'folder'; write one of"),
        ("{name: table, path: no.csv, target: kind}", "path: there is no file "),
        ("{name: digits, pixels: 3}", "pixels: unknown key"),
        ("{name: [1]}", "no data set '{name: [1]}'"),
        ("{a", "not valid YAML"),
    ],
)
def test_data_to_check_on_that_are_none(data: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(FLAT)
    done = dynloss_here("check", tmp_path / "nets.py", "--data", data)
    assert done.returncode == 2
    assert done.stderr.startswith("dynloss: --data: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


MARK = "from pathlib import Path; Path({!r}).touch()\n"


def test_what_is_not_what_was_begun_is_not_run(tmp_path: Path) -> None:
    """Neither an edited copy, nor a path that somebody wrote into the study's file."""
    ran = tmp_path / "ran"
    stored = begun(load_study(written(tmp_path / "project")), tmp_path / "out")
    (stored.folder.path / "plugins" / "nets.py").write_text(NETS + MARK.format(str(ran)))
    assert "was edited" in dynloss("status", stored.folder.path).stderr
    (tmp_path / "evil.py").write_text(NETS + MARK.format(str(ran)))
    (stored.folder.path / "plugins" / "nets.py").write_text(NETS)
    document = read_document(stored.folder.definition)
    document["plugins"] = [str(tmp_path / "evil.py")]
    stored.folder.definition.write_text(dump_document(document))
    assert "is a path in a study that was begun" in dynloss("status", stored.folder.path).stderr
    assert not ran.exists()


def test_a_network_that_rests_on_another_file_is_another_with_it(tmp_path: Path) -> None:
    base = NETS.replace("signal_net", "base_net").replace("signals", "other_signals")
    own = (
        "from dynloss_core.models import MODELS\nfrom dataclasses import dataclass\n"
        "from typing import Literal\nBase = MODELS['base_net']\n"
        "@dataclass(frozen=True)\nclass Own:\n    name: Literal['own'] = 'own'\n"
        "    def build(self, shape, classes):\n        return Base().build(shape, classes)\n"
    )
    hashes = []
    for text in (base, base.replace("ReLU", "Tanh")):
        (tmp_path / "base.py").write_text(text)
        (tmp_path / "own.py").write_text(own)
        document = tiny_document(
            plugins=["base.py", "own.py"], data={"name": "other_signals"}, model={"name": "own"}
        )
        (tmp_path / "mine.yaml").write_text(dump_document(document))
        hashes.append(config_hash(load_study(tmp_path / "mine.yaml").problem(keys.STATIC)))
    assert hashes[0] != hashes[1]


def test_names_of_an_earlier_text_are_gone(tmp_path: Path) -> None:
    load_study(written(tmp_path / "a"))
    with pytest.raises(ConfigError, match=r"model\.name: 'signal_net' is not one of the choices"):
        load_study(written(tmp_path / "b", NETS.replace("signal_net", "renamed")))


def test_a_study_names_the_plugins_of_its_parts(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    with pytest.raises(ConfigError, match="data: is of a plug-in that is not named"):
        replace(study, plugins=())


def test_two_files_of_one_name_and_two_classes_of_one_name(tmp_path: Path) -> None:
    written(tmp_path)
    read_plugin(tmp_path / "nets.py")
    (tmp_path / "others.py").write_text(NETS)
    with pytest.raises(ConfigError, match=r"'signal_net' is also one of nets\.py"):
        read_plugin(tmp_path / "others.py")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "nets.py").write_text(NETS)
    document = tiny_document(plugins=["nets.py", "sub/nets.py"])
    (tmp_path / "mine.yaml").write_text(dump_document(document))
    with pytest.raises(ConfigError, match=r"plugins\[1\]: a second file of the name 'nets\.py'"):
        load_study(tmp_path / "mine.yaml")
