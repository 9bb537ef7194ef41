"""Memory as the loops see it: an address, and what stands there.

An array is passed to a function as seven words or more, and asked at each access whether the index counts from its end.
Loops that call many small functions would pay more for that than for their work: they take arrays apart once, at their
start, and pass addresses on. Nobody checks that something is there.

Memory is read and written as an array is, `heap[place]`. Where nothing is compiled, it is the array itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.typing import templates
from numba.extending import intrinsic, lower_builtin, models, register_model

#: numba's own types do not tell of these.
_infer: Any = templates.infer_global
_signature: Any = templates.signature
_is_compiled = not vars(config)["DISABLE_JIT"]


class Memory(types.Type):
    """The type of an address. `element` is what lies there, `given` what it is read as; nobody writes to what is
    constant while a loop runs, so that it need not be read twice.
    """

    def __init__(self, name: str, element: Any, given: Any = types.int64, *, constant: bool = False) -> None:
        self.element, self.given, self.constant = element, given, constant
        super().__init__(name)


@register_model(Memory)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.element).get_data_type().as_pointer())


class _Read(templates.AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:  # noqa: ARG002 - numba's
        memory, index = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return _signature(memory.given, memory, types.int64)
        return None


class _Write(templates.AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:  # noqa: ARG002 - numba's
        memory, index, _ = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return _signature(types.void, memory, types.int64, memory.given)
        return None


_infer(operator.getitem)(_Read)
_infer(operator.setitem)(_Write)


@lower_builtin(operator.getitem, Memory, types.int64)
def _read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    memory = signature.args[0]
    read = builder.load(builder.gep(arguments[0], [arguments[1]]))
    if memory.constant:
        read.set_metadata("invariant.load", builder.module.add_metadata([]))
    return context.cast(builder, read, memory.element, memory.given)


@lower_builtin(operator.setitem, Memory, types.int64, types.Any)
def _write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    memory = signature.args[0]
    value = context.cast(builder, arguments[2], memory.given, memory.element)
    builder.store(value, builder.gep(arguments[0], [arguments[1]]))
    return context.get_dummy_value()


def _memory_of(memory: Memory, dtype: Any) -> Callable[..., Any]:
    """A function that gives the memory of an array."""

    def take_apart(_: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            return builder.bitcast(data, context.get_data_type(memory))

        return memory(array), generate

    def as_array(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1).view(dtype)

    return intrinsic(take_apart) if _is_compiled else as_array


#: The memory of an array of int64, of one that is constant, and of any array in halves of words or in bytes. Arrays are
#: contiguous.
words_of = _memory_of(Memory("words", types.int64), np.int64)
constants_of = _memory_of(Memory("constants", types.int64, constant=True), np.int64)
halves_of = _memory_of(Memory("halves", types.int32), np.int32)
bytes_of = _memory_of(Memory("bytes", types.uint8), np.uint8)


def _fetch(_: Any, memory: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), (byte, number, number, number))
        )
        # For reading; into all caches; data, not code.
        builder.call(prefetch, (address, number(0), number(3), number(1)))
        return context.get_dummy_value()

    return types.void(memory, place), generate


def _do_nothing(memory: Any, place: Any) -> None:
    """Where nothing is compiled, nothing is fetched."""


#: bring_near(memory, place) has the processor fetch what lies there into its caches, and does not wait for it.
bring_near: Callable[..., Any] = intrinsic(_fetch) if _is_compiled else _do_nothing
