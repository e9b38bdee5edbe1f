"""Plug-ins that installed packages offer, by entry points.

A package says in its `pyproject.toml` which names it defines, and in which module:

    [project.entry-points."dynloss.models"]
    small_net = "my_package.nets:SmallNet"

A study that names `small_net` takes the file of that module as one of its plug-ins: it is copied
into the study's folder, counts in its identity and travels to the workers, as a file that the study
names itself. So the module must be able to stand alone, or the workers must have the package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError, reason_of
from dynloss_core.plugins import Plugin, PluginKind, defines, is_built_in, read_plugin

__all__ = ["GROUPS", "installed_plugin", "installed_plugins"]

GROUPS: dict[PluginKind, str] = {
    "network": "dynloss.models",
    "data set": "dynloss.data",
    "loss": "dynloss.losses",
    "shape": "dynloss.shapes",
    "analysis": "dynloss.analyses",
}
"""The group of entry points for each kind. No study names an analysis: `dynloss analyse` does."""

_KINDS: dict[str, PluginKind] = {"loss": "loss", "shape": "shape"}  # by the key that names one


def installed_plugins(document: Mapping[str, Any], known: Sequence[Plugin]) -> list[Plugin]:
    """The plug-ins of installed packages that a study needs, loaded.

    Args:
        document: the study, as in its file.
        known: the plug-ins that it names itself.

    Raises:
        ConfigError: if one cannot be read, does not define what its package says, or has the name
            of another.
    """
    plugins: dict[str, Plugin] = {}
    for key, kind, name in _named(document):
        loaded = (*known, *plugins.values())
        if is_built_in(kind, name) or any(defines(plugin, kind, name) for plugin in loaded):
            continue
        try:
            plugin = installed_plugin(kind, name)
        except ConfigError as error:
            raise error.inside(key) from None
        if plugin is None:
            continue
        if any(named.file == plugin.file for named in known):
            problem = f"{name!r} is of an installed file {plugin.file!r}, as a plug-in is called"
            raise ConfigError(key, problem, "give the plug-in another name")
        plugins[plugin.file] = plugin
    return list(plugins.values())


def installed_plugin(kind: PluginKind, name: str) -> Plugin | None:
    """The plug-in of an installed package that offers a name, loaded; None if none does.

    Raises:
        ConfigError: if it cannot be read, does not define what its package says, or two offer it.
    """
    offers = entry_points(group=GROUPS[kind], name=name)
    return _read(list(offers), kind, name) if offers else None


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, PluginKind, str]]:
    """What a study names that a package may define: its key, its kind, its name."""
    sections: dict[str, PluginKind] = {"data": "data set", "model": "network"}
    for key, kind in sections.items():
        section = document.get(key)
        name = section.get("name") if isinstance(section, Mapping) else None
        if isinstance(name, str):
            yield f"{key}.name", kind, name
    for key in ("training", "arms", "space"):
        yield from _named_in(document.get(key), key, None)


def _named_in(
    value: Any, key: str, kind: PluginKind | None
) -> Iterator[tuple[str, PluginKind, str]]:
    """Losses and shapes, also among the choices of a parameter such as `training.loss`."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            below = _KINDS.get(str(name).rpartition(".")[2], kind)
            yield from _named_in(item, f"{key}.{name}", below)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _named_in(item, key, kind)
    elif isinstance(value, str) and kind is not None:
        yield key, kind, value


def _read(offers: Sequence[EntryPoint], kind: PluginKind, name: str) -> Plugin:
    packages = sorted({_package(entry) for entry in offers})
    if len(packages) > 1:
        problem = f"{name!r} is offered by several packages: {', '.join(packages)}"
        raise ConfigError("", problem, "uninstall all but one")
    (package,), offer = packages, offers[0]
    try:
        spec = importlib.util.find_spec(offer.module)
    except Exception as error:  # its parents are imported, and may raise anything
        problem = f"{offer.module}, in which {package} defines {name!r}, is not imported: "
        raise ConfigError("", problem + reason_of(error), "install it again") from None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        problem = f"{offer.module}, in which {package} defines {name!r}, has no Python file"
        raise ConfigError("", problem, "install it again, or name a file in `plugins`")
    plugin = read_plugin(Path(spec.origin))
    if not defines(plugin, kind, name):
        problem = f"{package} offers {name!r}, but {offer.module} defines no such {kind}"
        raise ConfigError("", problem, f"correct its entry points ({GROUPS[kind]})")
    return plugin


def _package(offer: EntryPoint) -> str:
    return offer.dist.name if offer.dist is not None else offer.module.partition(".")[0]
