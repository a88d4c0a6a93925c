"""Tiny Python functions in HumanEval's shape: signature and docstring as the prompt, one body, checked by ``check``."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from model.demo.held_out import is_held_out


@dataclass(frozen=True)
class FunctionFamily:
    """One behaviour with several names, argument names and docstrings; ``{0}``, ``{1}`` stand for the arguments."""

    names: tuple[str, ...]
    arguments: tuple[tuple[str, ...], ...]
    descriptions: tuple[str, ...]
    body: str
    cases: tuple[tuple[str, str], ...]
    """Arguments and result as Python source."""


TWO_NUMBERS: Final = (("a", "b"), ("x", "y"), ("first", "second"))
ONE_NUMBER: Final = (("n",), ("x",), ("number",))
ONE_LIST: Final = (("items",), ("values",), ("numbers",))
ONE_TEXT: Final = (("text",), ("s",), ("word",))

FAMILIES: Final[tuple[FunctionFamily, ...]] = (
    FunctionFamily(
        ("add", "sum_of_two", "plus"),
        TWO_NUMBERS,
        ("Return the sum of {0} and {1}.", "Add {0} and {1}.", "Return {0} plus {1}."),
        "return {0} + {1}",
        (("2, 3", "5"), ("0, 0", "0"), ("-1, 4", "3")),
    ),
    FunctionFamily(
        ("subtract", "difference", "minus"),
        TWO_NUMBERS,
        ("Return {0} minus {1}.", "Subtract {1} from {0}.", "Return the difference of {0} and {1}."),
        "return {0} - {1}",
        (("5, 3", "2"), ("0, 4", "-4")),
    ),
    FunctionFamily(
        ("multiply", "product", "times"),
        TWO_NUMBERS,
        ("Return the product of {0} and {1}.", "Multiply {0} by {1}.", "Return {0} times {1}."),
        "return {0} * {1}",
        (("2, 3", "6"), ("0, 9", "0")),
    ),
    FunctionFamily(
        ("maximum", "max_of_two", "larger"),
        TWO_NUMBERS,
        (
            "Return the larger of {0} and {1}.",
            "Return the maximum of {0} and {1}.",
            "Which is bigger, {0} or {1}?",
        ),
        "return max({0}, {1})",
        (("2, 3", "3"), ("7, 1", "7")),
    ),
    FunctionFamily(
        ("minimum", "min_of_two", "smaller"),
        TWO_NUMBERS,
        (
            "Return the smaller of {0} and {1}.",
            "Return the minimum of {0} and {1}.",
            "Which is less, {0} or {1}?",
        ),
        "return min({0}, {1})",
        (("2, 3", "2"), ("7, 1", "1")),
    ),
    FunctionFamily(
        ("is_equal", "same", "are_equal"),
        TWO_NUMBERS,
        (
            "Tell whether {0} and {1} are equal.",
            "Return True if {0} equals {1}.",
            "Check if {0} is the same as {1}.",
        ),
        "return {0} == {1}",
        (("2, 3", "False"), ("4, 4", "True")),
    ),
    FunctionFamily(
        ("is_even", "even", "check_even"),
        ONE_NUMBER,
        ("Return True if {0} is even.", "Tell whether {0} is even.", "Check if {0} is an even number."),
        "return {0} % 2 == 0",
        (("4", "True"), ("7", "False"), ("0", "True")),
    ),
    FunctionFamily(
        ("is_odd", "odd", "check_odd"),
        ONE_NUMBER,
        ("Return True if {0} is odd.", "Tell whether {0} is odd.", "Check if {0} is an odd number."),
        "return {0} % 2 == 1",
        (("4", "False"), ("7", "True")),
    ),
    FunctionFamily(
        ("double", "twice", "times_two"),
        ONE_NUMBER,
        ("Return {0} doubled.", "Return two times {0}.", "Double the number {0}."),
        "return {0} * 2",
        (("4", "8"), ("-3", "-6")),
    ),
    FunctionFamily(
        ("triple", "thrice", "times_three"),
        ONE_NUMBER,
        ("Return {0} tripled.", "Return three times {0}.", "Triple the number {0}."),
        "return {0} * 3",
        (("4", "12"), ("-3", "-9")),
    ),
    FunctionFamily(
        ("square", "squared", "power_of_two"),
        ONE_NUMBER,
        ("Return the square of {0}.", "Square the number {0}.", "Return {0} squared."),
        "return {0} * {0}",
        (("4", "16"), ("-3", "9")),
    ),
    FunctionFamily(
        ("increment", "add_one", "next_number"),
        ONE_NUMBER,
        ("Return {0} plus one.", "Add one to {0}.", "Return the number after {0}."),
        "return {0} + 1",
        (("4", "5"), ("-1", "0")),
    ),
    FunctionFamily(
        ("decrement", "subtract_one", "previous_number"),
        ONE_NUMBER,
        ("Return {0} minus one.", "Subtract one from {0}.", "Return the number before {0}."),
        "return {0} - 1",
        (("4", "3"), ("0", "-1")),
    ),
    FunctionFamily(
        ("negate", "negative_of", "flip_sign"),
        ONE_NUMBER,
        ("Return minus {0}.", "Change the sign of {0}.", "Return the negative of {0}."),
        "return -{0}",
        (("4", "-4"), ("-3", "3")),
    ),
    FunctionFamily(
        ("absolute", "distance_from_zero", "abs_value"),
        ONE_NUMBER,
        ("Return the absolute value of {0}.", "Return {0} without its sign.", "How far is {0} from zero?"),
        "return abs({0})",
        (("4", "4"), ("-3", "3")),
    ),
    FunctionFamily(
        ("is_positive", "above_zero", "positive"),
        ONE_NUMBER,
        (
            "Return True if {0} is positive.",
            "Tell whether {0} is above zero.",
            "Check if {0} is greater than zero.",
        ),
        "return {0} > 0",
        (("4", "True"), ("-3", "False"), ("0", "False")),
    ),
    FunctionFamily(
        ("is_negative", "below_zero", "negative"),
        ONE_NUMBER,
        (
            "Return True if {0} is negative.",
            "Tell whether {0} is below zero.",
            "Check if {0} is less than zero.",
        ),
        "return {0} < 0",
        (("4", "False"), ("-3", "True"), ("0", "False")),
    ),
    FunctionFamily(
        ("last", "last_element", "get_last"),
        ONE_LIST,
        ("Return the last element of {0}.", "Get the last of {0}.", "Return the element at the end of {0}."),
        "return {0}[-1]",
        (("[1, 2, 3]", "3"), ("[7]", "7")),
    ),
    FunctionFamily(
        ("first", "first_element", "get_first"),
        ONE_LIST,
        (
            "Return the first element of {0}.",
            "Get the first of {0}.",
            "Return the element at the start of {0}.",
        ),
        "return {0}[0]",
        (("[1, 2, 3]", "1"), ("[7]", "7")),
    ),
    FunctionFamily(
        ("total", "sum_list", "add_all"),
        ONE_LIST,
        ("Return the sum of all {0}.", "Add up all {0}.", "Return the total of the list {0}."),
        "return sum({0})",
        (("[1, 2, 3]", "6"), ("[]", "0")),
    ),
    FunctionFamily(
        ("largest", "max_of_list", "biggest"),
        ONE_LIST,
        (
            "Return the largest of {0}.",
            "Find the biggest element of {0}.",
            "Return the maximum of the list {0}.",
        ),
        "return max({0})",
        (("[1, 5, 3]", "5"), ("[7]", "7")),
    ),
    FunctionFamily(
        ("smallest", "min_of_list", "least"),
        ONE_LIST,
        (
            "Return the smallest of {0}.",
            "Find the least element of {0}.",
            "Return the minimum of the list {0}.",
        ),
        "return min({0})",
        (("[4, 1, 3]", "1"), ("[7]", "7")),
    ),
    FunctionFamily(
        ("sort_list", "in_order", "ordered"),
        ONE_LIST,
        ("Return {0} sorted.", "Sort the list {0}.", "Return {0} in order."),
        "return sorted({0})",
        (("[4, 1, 3]", "[1, 3, 4]"), ("[]", "[]")),
    ),
    FunctionFamily(
        ("count", "length_of", "how_many"),
        ONE_LIST,
        ("Return the length of {0}.", "Count the elements of {0}.", "How many elements are in {0}?"),
        "return len({0})",
        (("[4, 1, 3]", "3"), ("[]", "0")),
    ),
    FunctionFamily(
        ("is_empty", "empty", "has_nothing"),
        ONE_LIST,
        ("Return True if {0} is empty.", "Tell whether {0} is empty.", "Check if {0} has no elements."),
        "return len({0}) == 0",
        (("[4, 1, 3]", "False"), ("[]", "True")),
    ),
    FunctionFamily(
        ("reverse", "reverse_string", "backwards"),
        ONE_TEXT,
        ("Return {0} reversed.", "Reverse the string {0}.", "Return {0} backwards."),
        "return {0}[::-1]",
        (("'abc'", "'cba'"), ("''", "''")),
    ),
    FunctionFamily(
        ("upper", "shout", "to_upper"),
        ONE_TEXT,
        ("Return {0} in upper case.", "Make {0} upper case.", "Write {0} with capital letters."),
        "return {0}.upper()",
        (("'abc'", "'ABC'"), ("'Hi'", "'HI'")),
    ),
    FunctionFamily(
        ("lower", "whisper", "to_lower"),
        ONE_TEXT,
        ("Return {0} in lower case.", "Make {0} lower case.", "Write {0} with small letters."),
        "return {0}.lower()",
        (("'ABC'", "'abc'"), ("'Hi'", "'hi'")),
    ),
)


@dataclass(frozen=True)
class Problem:
    """One rendered function: the prompt ends after the docstring, the solution is the indented body."""

    prompt: str
    canonical_solution: str
    test: str
    entry_point: str
    description: str
    family: int
    key: str

    @property
    def held_out(self) -> bool:
        """Whether this combination of function name, argument names and docstring is kept from training."""
        return is_held_out("code", self.key)


def _problems() -> Iterator[Problem]:
    for index, family in enumerate(FAMILIES):
        for name in family.names:
            for arguments in family.arguments:
                if name in arguments:
                    continue
                for description in family.descriptions:
                    text = description.format(*arguments)
                    checks = "".join(f"    assert candidate({given}) == {result}\n" for given, result in family.cases)
                    yield Problem(
                        prompt=f'def {name}({", ".join(arguments)}):\n    """{text}"""\n',
                        canonical_solution=f"    {family.body.format(*arguments)}\n",
                        test=f"def check(candidate):\n{checks}",
                        entry_point=name,
                        description=text,
                        family=index,
                        key=f"{name}|{','.join(arguments)}|{text}",
                    )


@cache
def problems(*, held_out: bool) -> tuple[Problem, ...]:
    """List every problem on one side of the split, in table order."""
    return tuple(problem for problem in _problems() if problem.held_out is held_out)
