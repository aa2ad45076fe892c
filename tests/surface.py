"""The public surface of llmos as text: every public name with its signature, fields, values and place in the tree.

``python -m tests.surface`` records it anew in ``tests/surface.txt``.  Whoever changes it reads docs/stability.md first.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import attrs

from llmos_kernel import contracts, errors, hookspecs

RECORD = Path(__file__).with_suffix(".txt")
MODULES = (
    "llmos_kernel", "llmos_kernel.api", "llmos_kernel.config", "llmos_kernel.contracts", "llmos_kernel.services",
    "llmos_kernel.control", "llmos_kernel.loader", "llmos_kernel.plugins", "llmos", "llmos.testing",
    "llmos.testing.conformance", "llmos.testing.fixtures", "llmos.testing.routing", "llmos.testing.simulated",
)  # fmt: skip
"""Where public names are: those of a module without ``__all__`` are what it defines without an underscore."""


def surface() -> str:
    """Return the whole surface, one line per name, sorted within each part."""
    parts = [("versions of the contracts", [f"{kind}: {version}" for kind, version in sorted(contracts.API.items())])]
    parts.append(("hooks", sorted(_hooks())))
    parts.append(("errors", list(_tree(errors.KernelError, ""))))
    parts += [(f"module {name}", [*_module(name)]) for name in MODULES]
    return "\n".join(line for title, lines in parts for line in (f"# {title}", *lines, ""))


_PUBLIC = [
    getattr(module, name) for module in map(importlib.import_module, MODULES) for name in getattr(module, "__all__", ())
]


def _hooks() -> Iterator[str]:
    for kind, name in hookspecs.HOOKS.items():
        yield f"{name}{_signature(getattr(hookspecs, name))}  # llmos.{kind}"


def _tree(error: type[Exception], margin: str) -> Iterator[str]:
    builtin = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins" and base is not Exception]
    yield f"{margin}{error.__name__}{f' ({builtin[0]})' if builtin else ''}"
    for sub in sorted(error.__subclasses__(), key=lambda one: one.__name__):
        if sub.__module__ == errors.__name__:
            yield from _tree(sub, f"{margin}  ")


def _module(name: str) -> Iterator[str]:
    """Yield the lines of a module; what is described where it is defined is only named here."""
    module = importlib.import_module(name)
    stated = getattr(module, "__all__", None)
    names = stated if stated is not None else [key for key in vars(module) if _own(module, key)]
    for key in sorted(names):
        value = getattr(module, key)
        home = getattr(value, "__module__", name)
        if home != name and home in MODULES and not home.rpartition(".")[2].startswith("_"):
            yield f"{key}: see {home}"
        else:
            yield from _described(key, value)


def _own(module: types.ModuleType, key: str) -> bool:
    value = vars(module)[key]
    imported = isinstance(value, types.ModuleType) or key == "annotations"
    if key.startswith("_") or imported or key == "TYPE_CHECKING":
        return False
    if type(value).__name__ == "FixtureFunctionDefinition":
        return True
    if inspect.isclass(value) or inspect.isfunction(value):
        return bool(value.__module__ == module.__name__)
    source = Path(str(module.__file__)).read_text("utf-8")
    return key.isupper() and re.search(rf"^{key}\b.* = ", source, re.MULTILINE) is not None


def _described(key: str, value: object) -> Iterator[str]:
    if isinstance(value, type):
        yield f"class {key}({', '.join(base.__name__ for base in value.__bases__)})"
        yield from (f"    {line}" for line in _members(value))
    elif type(value).__name__ == "FixtureFunctionDefinition":
        yield f"fixture {key}"
    elif inspect.isroutine(value):
        yield f"def {key}{_signature(value)}"
    elif isinstance(value, types.ModuleType):
        yield f"{key}: module {value.__name__}"
    elif typing.get_origin(value) is not None:
        yield f"{key} = {value}".replace("typing.", "").replace("collections.abc.", "")
    else:
        yield f"{key}: {type(value).__name__}"


def _members(cls: type) -> Iterator[str]:
    if issubclass(cls, enum.Enum):
        yield from (f"{name} = {member.value!r}" for name, member in cls.__members__.items())
        return
    if typing.is_typeddict(cls):
        yield from (f"{name}: {_annotation(kind)}" for name, kind in sorted(cls.__annotations__.items()))
        return
    fields = {field.name: field for field in attrs.fields(cls)} if attrs.has(cls) else {}
    for field in fields.values():
        if not field.name.startswith("_") and field.init:
            yield f"{field.name}: {field.type}{_default(field)}{' (keyword)' if field.kw_only else ''}"
    for name, member in sorted(_inherited(cls).items()):
        public = not name.startswith("_") or (name == "__init__" and not fields)
        if public and name not in fields:
            yield from _member(name, member)


def _inherited(cls: type) -> dict[str, object]:
    """Return the members of *cls*, and of those of its bases that no public name stands for."""
    ours = [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] in ("llmos", "llmos_kernel")]
    hidden = [base for base in ours if not any(base is public for public in _PUBLIC)]
    return {name: member for base in [*reversed(hidden), cls] for name, member in vars(base).items()}


def _annotation(kind: object) -> str:
    return getattr(kind, "__forward_arg__", None) or inspect.formatannotation(kind)


def _default(field: attrs.Attribute[object]) -> str:
    if field.default is attrs.NOTHING:
        return ""
    return " = ..." if isinstance(field.default, attrs.Factory) else f" = {field.default!r}"  # type: ignore[arg-type]


def _member(name: str, member: object) -> Iterator[str]:
    abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
    if isinstance(member, property):
        yield f"{abstract}property {name} -> {inspect.signature(member.fget).return_annotation}"  # type: ignore[arg-type]
    elif isinstance(member, staticmethod | classmethod):
        yield f"{type(member).__name__} {name}{_signature(member.__func__)}"
    elif inspect.isroutine(member):
        yield f"{abstract}def {name}{_signature(member)}"


def _signature(function: object) -> str:
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    shown = [
        one.replace(default=_Shown(_plain(one.default)), annotation=_Shown(one.annotation))
        if one.default is not one.empty
        else one.replace(annotation=_Shown(one.annotation))
        for one in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=shown, return_annotation=_Shown(signature.return_annotation)))
    return text.replace(": <class 'inspect._empty'>", "").replace(" -> <class 'inspect._empty'>", "")


def _plain(value: object) -> str:
    """Return a default as it is written, without the address of an object."""
    return repr(value) if isinstance(value, str | int | float | tuple | None) else "..."


class _Shown:
    """Something that is written as *text*."""

    def __init__(self, text: object) -> None:
        self.text = text

    def __repr__(self) -> str:
        return str(self.text)


def main() -> None:
    """Record the surface."""
    RECORD.write_text(surface(), "utf-8")
    print(f"recorded {RECORD}")


if __name__ == "__main__":
    main()
