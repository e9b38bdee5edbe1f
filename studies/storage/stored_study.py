"""A study as its folder has it: read once, then handed on to whatever works on it.

Changes are written by its methods, which return the study as it is from then on.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynloss_core import keys
from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError, build, to_dict
from search_spaces.documents import dump_document, read_document
from studies.analysis.looks import Look
from studies.definition.phases import Phase
from studies.definition.plugin_files import plugins_in, write_plugins
from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping
from studies.messages import say
from studies.search.confirmation import Confirmation
from studies.storage.begun import Begun, check_unchanged, differences
from studies.storage.sealed_files import read_json, write_json
from studies.storage.study_folder import StudyFolder

__all__ = ["StoredStudy", "stored_definition"]

# stands for the MLflow store beside the folder, wherever both are moved
_STORE_BESIDE_FOLDER = "default"
_SHOWN = 5  # most differences that a refusal names


@dataclass(frozen=True, eq=False)
class StoredStudy:
    """A study and what its folder keeps of it.

    Args:
        folder: its folder.
        study: its definition, extensions included.
        identity: identifier by which its runs in MLflow are found again; empty if a version that
            kept none began it (see `place.located`).
        state: where it lies, its run in MLflow, versions and hardware.
        rounds: rounds of confirmation that the definition does not ask for, in order.
        looks: the looks at it before something was added (see `studies.analysis.looks`).
        is_new: whether it was begun just now.
    """

    folder: StudyFolder
    study: Study
    identity: str
    state: dict[str, Any]
    rounds: tuple[Confirmation, ...] = ()
    looks: tuple[Look, ...] = ()
    is_new: bool = False

    @classmethod
    def read(cls, folder: StudyFolder) -> StoredStudy:
        """Read the study in a folder.

        Raises:
            ConfigError: if there is none, a file of it is damaged, or its definition was edited.
        """
        begun = Begun.read(folder.begun) if folder.exists() else None
        study, state = _definition(folder, begun), folder.state()
        identity = begun.study_id if begun is not None else str(state.get("study_id", ""))
        return cls(folder, study, identity, state, *_rounds_and_looks(folder, study))

    @classmethod
    def begin(cls, folder: StudyFolder, study: Study, *, resume: bool) -> StoredStudy:
        """Begin a study in a folder, or read it if the folder holds it already.

        Where others may use the folder, hold its lock (see `StudyFolder.locked`).

        Raises:
            ConfigError: if the folder holds another study, or this one and `resume` is false, or
                cannot be written; nothing is changed then.
        """
        if folder.exists():
            stored = cls.read(folder)
            known = stored.study
            if known.hash not in (study.hash, _extended_like(study, known).hash):
                changed = _first_of(differences(known, study))
                problem = f"holds another study of this name: {changed}"
                remedy = "rename yours, or choose another --out"
                raise ConfigError("", problem, remedy, str(folder.path))
            if not resume:
                problem = "holds this study already"
                remedy = "add --resume to continue, or to a finished one --extend N trials"
                raise ConfigError("", problem, remedy, str(folder.path))
            return stored
        folder.refuse_foreign()
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            stored = cls(folder, study, "", folder.state(), is_new=True).with_identity()
            return stored.with_definition(study)
        except OSError as error:
            raise ConfigError(
                "", f"cannot be written: {error.strerror}", "choose another --out", str(folder.path)
            ) from None

    @property
    def tracking_uri(self) -> str:
        """The MLflow store that it was begun with."""
        uri = str(self.state.get("tracking_uri", _STORE_BESIDE_FOLDER))
        if uri == _STORE_BESIDE_FOLDER:
            return self.folder.default_tracking_uri
        if "place" not in self.state and uri.startswith("sqlite:") and uri.endswith("/mlflow.db"):
            return self.folder.default_tracking_uri  # written before folders could be moved
        return uri

    @property
    def networks(self) -> int:
        """How many networks it trains in all, those of the rounds that were asked for included."""
        rounds = [block.members for confirmation in self.rounds for block in confirmation.blocks()]
        return self.study.members() + sum(rounds)

    def with_identity(self, identity: str | None = None) -> StoredStudy:
        """The study with an identity, by default a new one, and with its definition sealed."""
        identity = identity or uuid.uuid4().hex
        write_plugins(self.study.plugins, self.folder.path)
        Begun(identity, self.study).write(self.folder.begun)
        return replace(self, identity=identity).with_state(study_id=identity)

    def with_state(self, **changes: Any) -> StoredStudy:
        """The study with changes made to its state."""
        if changes.get("tracking_uri") == self.folder.default_tracking_uri:
            changes["tracking_uri"] = _STORE_BESIDE_FOLDER
        state = {**self.state, **changes}
        self.folder.write_state(state)
        return replace(self, state=state)

    def with_definition(self, study: Study) -> StoredStudy:
        """The study with another definition: extended, or changed without effect on results."""
        if study.hash != self.study.hash:
            Begun(self.identity, study).write(self.folder.begun)
        write_plugins(study.plugins, self.folder.path)
        write_atomically(self.folder.definition, dump_document(to_dict(study)))
        return replace(self, study=study)

    def updated_from(self, study: Study) -> StoredStudy:
        """The study updated from another file of it, whose changes have no effect on results."""
        study = _extended_like(study, self.study)
        changed = differences(self.study, study)
        if not changed:
            write_plugins(study.plugins, self.folder.path)  # a copy may be lost
            return self
        say(f"updated from your file: {'; '.join(changed)}")
        return self.with_definition(study)

    def with_round(self, confirmation: Confirmation) -> StoredStudy:
        """The study with another round, recorded before it begins so that a resumed study continues
        it; a round that is recorded already is left alone."""
        if any(known.phase == confirmation.phase for known in self.rounds):
            return self
        rounds = sorted((*self.rounds, confirmation), key=lambda known: (known.round, known.search))
        return replace(self, rounds=tuple(rounds))._with_confirm_written()

    def with_looks(self, looks: Sequence[Look]) -> StoredStudy:
        """The study with its looks recorded, beside its rounds."""
        return replace(self, looks=tuple(looks))._with_confirm_written()

    def _with_confirm_written(self) -> StoredStudy:
        rounds = [to_dict(known) for known in self.rounds]
        looks = {"looks": [list(look) for look in self.looks]} if self.looks else {}
        write_json(self.folder.confirm, {"rounds": rounds, **looks})
        return self

    def refuse_lost_rounds(self) -> None:
        """Refuse to plan anything if a round was trained whose record is lost.

        Raises:
            ConfigError: naming the round.
        """
        kinds = [keys.SEARCH, *([keys.CONFIRM] if self.study.has_own_round() else [])]
        numbers = range(1, self.study.searches + 1)
        known = {str(Phase(kind, search=number)) for kind in kinds for number in numbers}
        finals = range(1, self.study.finals + 1)
        known |= {str(Phase(keys.FINALS, k, n)) for k in finals for n in numbers}
        known |= {confirmation.phase for confirmation in self.rounds}
        parts = self.folder.parts
        for part in parts.files("members"):
            phase = parts.block_of(part).rsplit("-", 2)[0]
            if phase not in known:
                problem = f"lacks the round {phase}, which was trained"
                remedy = f"restore it, or delete {part.parent / phase}-* to discard the round"
                raise ConfigError("", problem, remedy, str(self.folder.confirm))


def _first_of(changes: list[str]) -> str:
    """The first of many differences, and how many there are beside them."""
    rest = [f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
    return "; ".join([*changes[:_SHOWN], *rest])


def _extended_like(study: Study, known: Study) -> Study:
    """A study's definition, extended as far as a state of it that may be longer."""
    measured = known.block_sizes if study.block_size == known.block_size else {}
    if not study.block_sizes and set(study.arms) == set(measured):
        study = replace(study, block_sizes=measured)
    begins = study.extensions == known.extensions[: len(study.extensions)]
    if not begins or study.searches > known.searches:
        return study
    return replace(study, extensions=known.extensions, searches=known.searches)


def stored_definition(folder: StudyFolder) -> Study:
    """Read the definition of the study in a folder, and nothing else.

    Raises:
        ConfigError: if there is none, it is damaged, or it was edited.
    """
    return _definition(folder, Begun.read(folder.begun) if folder.exists() else None)


def _definition(folder: StudyFolder, begun: Begun | None) -> Study:
    """The definition in `study.yaml`, compared with the one that the study began with."""
    if not folder.exists():
        raise ConfigError("", "holds no study", "run one first", str(folder.path))
    if begun is not None and not folder.definition.exists():
        return begun.study
    try:
        document = read_document(folder.definition)
        if begun is not None:
            document = _with_sound_analyses(document, begun.study, folder)
        study = study_from_mapping(
            document, source=str(folder.definition), folder=folder.path, recorded=True
        )
    except ConfigError as error:
        if begun is None:
            raise
        remedy = "delete it: it is rewritten when the study continues"
        raise ConfigError(error.key, error.problem, remedy, error.source) from None
    if begun is None:
        return study
    study = _extended_like(study, begun.study)  # killed while extending
    check_unchanged(begun.study, study, folder.definition)
    return study


def _with_sound_analyses(
    document: dict[str, Any], begun: Study, folder: StudyFolder
) -> dict[str, Any]:
    """A study's document without the plug-ins that only analyse, where their copy was lost or
    edited: no network depends on them."""
    given, source = document.get("plugins"), str(folder.definition)
    if not isinstance(given, list):
        return document
    lasting, kept = [to_dict(plugin) for plugin in begun.plugins], []
    for entry in given:
        if entry not in lasting:
            try:
                plugins_in([entry], folder.path, source, recorded=True)
            except ConfigError as error:
                say(f"its own analysis is left out: {error.source}: {error.problem}")
                continue
        kept.append(entry)
    return {**document, "plugins": kept}


def _rounds_and_looks(
    folder: StudyFolder, study: Study
) -> tuple[tuple[Confirmation, ...], tuple[Look, ...]]:
    """The rounds that were asked for, in order, and the looks."""
    if not folder.confirm.exists():
        return (), ()
    content = read_json(folder.confirm, "restore it: nothing else records what its rounds rerun")
    known = content if isinstance(content, dict) else {"rounds": content}
    entries, looks = known["rounds"], known.get("looks", ())
    planned = [
        build(Confirmation, entry, source=f"{folder.confirm}[{index}]")
        for index, entry in enumerate(entries)
    ]
    has_own = study.has_own_round()  # recorded all the same by an extension that was killed
    rounds = tuple(each for each in planned if each.round > 1 or not has_own)
    return rounds, tuple(tuple(int(count) for count in look) for look in looks)
