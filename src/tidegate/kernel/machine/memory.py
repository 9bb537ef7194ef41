"""Memory as the loops see it: an address, and what stands there.

An array is passed to a function as ten words or so, one of each dimension's among them, and asked on each access
whether the index counts from its end. Loops that call many small functions pay more for that than for their work: they
take arrays apart once, at their start, and pass addresses on. Nobody checks that something is there.

Memory is read and written as arrays are, `heap[place]`. Where numba does not compile, it is the array itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


class Memory(types.Type):
    """The type of an address. `element` is what lies there, `given` what it is read as."""

    def __init__(self, name: str, element: Any, given: Any, *, constant: bool = False) -> None:
        self.element, self.given, self.constant = element, given, constant
        super().__init__(name)


@register_model(Memory)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.element).get_data_type().as_pointer())


@infer_global(operator.getitem)
class _Read(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        memory, index = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return signature(memory.given, memory, types.int64)
        return None


@infer_global(operator.setitem)
class _Write(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        memory, index, value = args
        if isinstance(memory, Memory) and isinstance(index, types.Integer):
            return signature(types.void, memory, types.int64, memory.given)
        return None


@lower_builtin(operator.getitem, Memory, types.int64)
def _read(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    memory = sig.args[0]
    read = builder.load(builder.gep(arguments[0], [arguments[1]]))
    if memory.constant:
        read.set_metadata("invariant.load", builder.module.add_metadata([]))
    return context.cast(builder, read, memory.element, memory.given)


@lower_builtin(operator.setitem, Memory, types.int64, types.Any)
def _write(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    memory = sig.args[0]
    value = context.cast(builder, arguments[2], memory.given, memory.element)
    builder.store(value, builder.gep(arguments[0], [arguments[1]]))
    return context.get_dummy_value()


def _taker(memory: Memory, as_array: Any) -> Callable[..., Any]:
    @intrinsic
    def take(_: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, arguments[0]).data
            return builder.bitcast(data, context.get_data_type(memory))

        return memory(array), generate

    if numba.config.DISABLE_JIT:
        return as_array
    return take


#: The memory of an array of int64.
words_of = _taker(Memory("words", types.int64, types.int64), lambda array: array.reshape(-1))
#: The same, of an array that nobody writes to meanwhile.
constants_of = _taker(Memory("constants", types.int64, types.int64, constant=True), lambda array: array.reshape(-1))
#: The memory of any array, in halves of words.
halves_of = _taker(Memory("halves", types.int32, types.int64), lambda array: array.reshape(-1).view(np.int32))
#: The memory of an array of bytes or booleans.
bytes_of = _taker(Memory("bytes", types.uint8, types.int64), lambda array: array.reshape(-1).view(np.uint8))


@intrinsic
def bring_near(_: Any, memory: Any, place: Any) -> Any:
    """Have the processor fetch what lies at a place into its caches, and do not wait for it."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), (byte, number, number, number))
        )
        # For reading; into all caches; data, not code.
        builder.call(function, (address, number(0), number(3), number(1)))
        return context.get_dummy_value()

    return types.void(memory, types.int64), generate
