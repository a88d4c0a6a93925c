"""A checkpoint's pickle, read with nothing executed: tensors become descriptions, Megatron's classes become nothing.

Two gates, the second independent of the first:

1. every opcode is read with `pickletools`, which builds nothing; opcodes that `torch.save` does not write, and names
   that are not on the list, are refused there;
2. `find_class` hands out stand-ins from the same list, never what a module really holds.

The stand-ins keep no state, so that nothing a pickle does to them outlives it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch

from model.checkpoint.convert.wording import shown

# A tuple nested some 100,000 deep overflows the C stack when it is hashed; a release has four for each tensor.
MOST_TUPLES: Final = 30_000
# What Python 3 writes in protocol 2, torch.save's default, and what protocols 3 and 4 add for plain data. Protocol 0's
# text forms, EXT*, INST, OBJ, NEWOBJ_EX and PERSID are left out: torch.save writes none of them.
_OPCODE_NAMES: Final = """
PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE
SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1
TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE
GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID
"""
_OPCODES: Final = frozenset(_OPCODE_NAMES.split())
_TUPLES: Final = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


class RefusedPickle(Exception):
    """The pickle holds what a release does not; the text says what, without naming the file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor's elements are: entry `key` of the archive, holding `storage_elements` of `dtype`; `offset` and
    `strides` in elements."""

    key: str
    dtype: torch.dtype
    storage_elements: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """What stands in for classes whose content is of no use here; takes any arguments and state, keeps none."""

    __slots__ = ()

    def __new__(cls, *arguments: object, **named: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None: ...

    def extend(self, values: object) -> None: ...


class Table(dict[Any, Any]):
    """What stands in for OrderedDict; attributes such as a state_dict's `_metadata` are not kept."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None: ...


class CheckpointArgs:
    """What stands in for argparse.Namespace: `values` by name."""

    values: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise RefusedPickle("a Namespace whose state is no table of names")
        self.values = dict(state)


@dataclass(frozen=True, slots=True)
class _StorageType:
    """What stands in for torch.FloatStorage and its kin."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype
    elements: int


class _RebuildTensor:
    """What stands in for torch._utils._rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, size: object, stride: object, *rest: object) -> StoredTensor:
        if not isinstance(storage, _Storage):
            raise RefusedPickle("a tensor without a storage")
        numbers = (offset, *_numbers(size), *_numbers(stride))
        if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
            raise RefusedPickle(f"a tensor with offset {shown(offset)}, size {shown(size)} and stride {shown(stride)}")
        shape, strides = _numbers(size), _numbers(stride)
        assert isinstance(offset, int)
        last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=False))
        if len(shape) != len(strides) or (0 not in shape and last >= storage.elements):
            raise RefusedPickle(
                f"a tensor of shape {shown(list(shape))} that does not fit its storage of {storage.elements} elements"
            )
        return StoredTensor(storage.key, storage.dtype, storage.elements, offset, shape, strides)


class _RebuildParameter:
    """What stands in for torch._utils._rebuild_parameter: the tensor itself."""

    __slots__ = ()

    def __call__(self, tensor: object, *rest: object) -> object:
        return tensor


class _RebuildWithAttributes:
    """What stands in for torch._tensor._rebuild_from_type_v2, which gives a tensor the attributes it had, such as
    Megatron's `tensor_model_parallel`: the tensor without them."""

    __slots__ = ()

    def __call__(self, rebuild: object, kind: object, arguments: object, state: object) -> object:
        if not isinstance(rebuild, (_RebuildTensor, _RebuildParameter)) or not isinstance(arguments, tuple):
            raise RefusedPickle("a tensor of an unknown kind")
        return rebuild(*arguments)


def _numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 8:
        raise RefusedPickle(f"a tensor with the size or stride {shown(value)}")
    return value


_STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES: Final = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
# The state of NumPy's random numbers, which Megatron saves beside the model.
_NUMPY: Final = (
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
)
_STAND_INS: Final[dict[str, Any]] = {
    "collections.OrderedDict": Table,
    "builtins.set": set,
    "__builtin__.set": set,
    "argparse.Namespace": CheckpointArgs,
    "torch._utils._rebuild_tensor_v2": _RebuildTensor(),
    "torch._utils._rebuild_parameter": _RebuildParameter(),
    "torch._utils._rebuild_parameter_with_state": _RebuildParameter(),
    "torch._tensor._rebuild_from_type_v2": _RebuildWithAttributes(),
    "torch.Tensor": Inert,
    "torch.nn.parameter.Parameter": Inert,
    "torch.Size": tuple,
    "torch.device": Inert,
    **{f"torch.{name}": _StorageType(dtype) for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": getattr(torch, name) for name in _DTYPES},
    **dict.fromkeys(_NUMPY, Inert),
}


def _stand_in(module: str, name: str) -> Any:
    if module == "megatron" or module.startswith("megatron."):
        return Inert
    try:
        return _STAND_INS[f"{module}.{name}"]
    except KeyError:
        raise RefusedPickle(f"{shown(f'{module}.{name}')}, which no Persimmon release needs") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return _stand_in(module_name, global_name)

    def persistent_load(self, pid: Any, /) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(elements)) if 0 <= elements < 1 << 48:
                return _Storage(key, dtype, elements)
        raise RefusedPickle(f"the storage {shown(pid)}")


def _check_opcodes(data: bytes) -> None:
    tuples = 0
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise RefusedPickle(f"the pickle instruction {opcode.name}, which torch.save does not write")
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            _stand_in(module, name)
        elif opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise RefusedPickle(f"a reference numbered {argument} in {len(data)} bytes")
        tuples += opcode.name in _TUPLES
        if tuples > MOST_TUPLES:
            raise RefusedPickle(f"more than {MOST_TUPLES} tuples")


def load_restricted(data: bytes) -> object:
    """What a pickle describes, in dicts, lists, tuples, plain values, :class:`StoredTensor`, :class:`CheckpointArgs`
    and :class:`Inert`.

    Raises:
        RefusedPickle: it holds anything else, or is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # pickletools warns about escapes in text it is about to refuse
            _check_opcodes(data)
        return _Unpickler(io.BytesIO(data)).load()
    except RefusedPickle:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise RefusedPickle(f"a damaged pickle ({type(error).__name__}: {shown(str(error))})") from None
