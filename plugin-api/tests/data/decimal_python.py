"""Writes decimal_python.txt: what Python's decimal says about products, sums and quotients.

Each line is `operation a b python ours`: `python` by a context of 28 digits, half even; `ours` the same rule with at
most 28 fractional digits, rounded once from the exact value (`none` = more than 28 digits before the point).
"""
import random
from decimal import Context, Decimal, ROUND_HALF_EVEN, localcontext
from fractions import Fraction

random.seed(20260101)
PYTHON = Context(prec=28, rounding=ROUND_HALF_EVEN)


def number():
    digits = random.choice([1, 2, 3, 6, 9, 12, 15, 20, 27, 28])
    scale = random.choice([0, 0, 1, 2, 6, 9, 12, 20, 27, 28])
    mantissa = random.randrange(10 ** (digits - 1), 10 ** digits)
    if random.random() < 0.2:
        mantissa = mantissa // 10 ** (digits // 2) * 10 ** (digits // 2)
    if random.random() < 0.1:
        mantissa = 10 ** digits - 1
    if random.random() < 0.2:
        mantissa = 5 * 10 ** (digits - 1)
    return Decimal((random.randrange(2), tuple(map(int, str(mantissa))), -scale))


def half_even(value: Fraction) -> int:
    floor = value.numerator // value.denominator
    rest = value - floor
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1)
    return floor + up


def ours(exact: Fraction) -> str:
    if exact == 0:
        return "0"
    whole, digits = abs(exact), 0
    while whole >= 10 ** digits:
        digits += 1
    if digits > 28:
        return "none"
    if digits == 0:
        while whole * 10 ** (1 - digits) < 1:
            digits -= 1
    places = min(28, 28 - digits)
    unscaled = half_even(whole * 10 ** places)
    sign = 1 if exact < 0 else 0
    return format(Decimal((sign, tuple(map(int, str(unscaled))), -places)), "f")


def line(operation, a, b):
    exact_a, exact_b = Fraction(a), Fraction(b)
    if operation == "mul":
        python, exact = PYTHON.multiply(a, b), exact_a * exact_b
    elif operation == "add":
        python, exact = PYTHON.add(a, b), exact_a + exact_b
    else:
        python, exact = PYTHON.divide(a, b), exact_a / exact_b
    return f"{operation} {a:f} {b:f} {python} {ours(exact)}"


with open(__file__.replace(".py", ".txt"), "w") as out:
    for operation, count in [("mul", 900), ("add", 300), ("div", 300)]:
        for _ in range(count):
            print(line(operation, number(), number()), file=out)
