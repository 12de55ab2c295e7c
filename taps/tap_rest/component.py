"""What a part of a declaration is: a frozen value; its fields are its YAML keys, its methods its behaviour."""

from __future__ import annotations

from abc import ABCMeta

import msgspec


class _Kinds(msgspec.StructMeta, ABCMeta):
    """Lets a base name what each of its kinds must bring (`abstractmethod`)."""


class Component(
    msgspec.Struct, metaclass=_Kinds, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of a declaration; keys that it does not know are mistakes."""
