"""The instructions of the register machine, as numbers.

An instruction is a row of int64 words: what to do, the register that takes the result, up to three registers that it is
made of, and two numbers. A register is a word of 64 bits for each row of a block and a byte that says whether there is
a value: a decimal takes two registers, the lower word first.
"""

from __future__ import annotations

OPCODE, TO, A, B, C, NUMBER, OTHER, WORDS = 0, 1, 2, 3, 4, 5, 6, 7

#: Instructions below each of these numbers, and not below the one before, belong together.
MOVES_END, INTEGERS_END, DOUBLES_END, DECIMALS_END = 20, 40, 60, 80

# NUMBER is a row of the batch's values.
LOAD, STORE = 0, 1
# IF: the second where the first holds, else the third.
IF, COALESCE, IS_NULL, AND, OR = 2, 3, 4, 5, 6
# NUMBER 1 turns the answer of a comparison round.
EQUAL, LESS, EQUAL_TEXTS = 7, 8, 9
# The first half of a text's hash.
HASH_TEXT = 10

# NUMBER 1: what does not fit 32 bits is NULL. FLOOR_DIVIDE is by NUMBER. PART is of a time, by its number.
ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULO, NARROW, FLOOR_DIVIDE, PART = 20, 21, 22, 23, 24, 25, 26, 27

# ORDER: `ordered_bits`; UNORDER: back. HUGE_TO_DOUBLE as DuckDB does it. ROUND_TO_INTEGER: half to even, OTHER
# as NUMBER above.
ADD_DOUBLES, SUBTRACT_DOUBLES, MULTIPLY_DOUBLES, DIVIDE_DOUBLES, ORDER, UNORDER = 40, 41, 42, 43, 44, 45
TO_DOUBLE, HUGE_TO_DOUBLE, ROUND_TO_INTEGER = 46, 47, 48
# A function of one or two doubles, by NUMBER.
UNARY, BINARY = 49, 50

# SCALE: times 10 to the NUMBER; what has more than OTHER digits then is NULL. A decimal of the scale NUMBER becomes a
# double, or by rounding half away from zero an integer (OTHER 1: of 32 bits).
WIDEN, ADD_DECIMALS, SUBTRACT_DECIMALS, MULTIPLY_DECIMALS, SCALE = 60, 61, 62, 63, 64
EQUAL_DECIMALS, LESS_DECIMALS, DECIMAL_TO_DOUBLE, DECIMAL_TO_INTEGER = 65, 66, 67, 68

#: Functions of one double.
UNARY_FUNCTIONS = (
    *("abs", "floor", "ceil", "round", "exp", "atan", "is_finite"),
    *("sqrt", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos"),
)
ABS, FLOOR, CEIL, ROUND, EXP, ATAN, IS_FINITE, SQRT, LN, LOG2, LOG10, SIN, COS, TAN, ASIN, ACOS = range(
    len(UNARY_FUNCTIONS)
)

#: Functions of two doubles.
BINARY_FUNCTIONS = ("power", "atan2", "modulo")
POWER, ATAN2, FMOD = range(len(BINARY_FUNCTIONS))

#: Parts of a time.
TIME_PARTS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second", "isodow", "dow", "doy")
YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, ISODOW, DOW, DOY = range(len(TIME_PARTS))
