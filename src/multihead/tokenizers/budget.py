"""Time and memory budget for chat templates: Jinja's sandbox stops code but not endless work.

A compiled template counts its own steps: each block that runs, each loop, call, comparison, operator and filter is one,
and what these make is measured. What could make something huge in one operation (`'a' * 10**9`, `center(10**9)`,
`'%1000000000d'`) is measured before it is done. So no single operation takes long, and a template that takes many
steps is stopped by their number or by the time that its thread has computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from time import thread_time
from typing import Any

from jinja2 import nodes, pass_context, pass_environment
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ..errors import ChatTemplateError
from .growth import BITS, EAGER, FILTERS, METHODS, check_format, check_method, check_operator, lorem_ipsum, refuse_over

STEPS = 3_000_000
SECONDS = 3.0  # of the thread's own computing
CHARACTERS = 200_000_000  # of all values that are made
HEAVY = 100_000  # characters of a value after which the time is looked at
NODE = 16  # what a value counts in the size of a list or dict, beside its characters
WATCHED_TESTS = ("in", "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">",
                 "ge", ">=", "lower", "upper")  # fmt: skip


class Budget:
    """Remaining steps and characters of one rendering."""

    def __init__(self) -> None:
        self.steps, self.characters, self.end = STEPS, CHARACTERS, thread_time() + SECONDS
        self.sizes: dict[int, tuple[Any, int]] = {}  # of lists and dicts; holding them keeps their ids theirs

    def step(self, made: int = 0) -> None:
        """Count one step that makes some characters. Raises ChatTemplateError once the budget is spent."""
        self.steps -= 1
        self.characters -= made
        if made > HEAVY or self.characters < 0 or not self.steps & 63:
            self.check()

    def check(self) -> None:
        """Raise ChatTemplateError once the budget is spent."""
        if self.steps < 0 or self.characters < 0 or thread_time() > self.end:
            raise ChatTemplateError(
                f"The chat template does not come to an end within {STEPS:,} steps, {SECONDS:g} seconds and "
                f"{CHARACTERS:,} characters: it is damaged, or not made for so long a conversation."
            )

    def size(self, value: Any) -> int:
        """Estimate the characters of a printed value. Raises ChatTemplateError for too many."""
        if isinstance(value, (str, bytes)):
            return len(value) + NODE
        if isinstance(value, int):
            return value.bit_length() // 3 + NODE
        if not isinstance(value, (list, tuple, dict, set, frozenset)):
            return NODE
        if id(value) in self.sizes:
            return self.sizes[id(value)][1]
        total = NODE
        for item in value:
            total += self.size(item) + (self.size(value[item]) if isinstance(value, dict) else 0)
            refuse_over(total)
        self.sizes[id(value)] = value, total
        return total

    def spend(self, value: Any) -> Any:
        """Count a step that made a value, and return the value."""
        if isinstance(value, (str, bytes)):
            if len(value) > HEAVY:
                refuse_over(len(value))
            self.step(len(value))
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self.step(NODE * len(value))
            self.size(value)
        else:
            if isinstance(value, int):
                refuse_over(value.bit_length(), BITS)
            self.step()
        return value


BUDGET: ContextVar[Budget] = ContextVar("BUDGET")


@contextmanager
def limit_budget() -> Iterator[None]:
    """Give the decorated function a budget of its own for everything it renders."""
    token = BUDGET.set(Budget())
    try:
        yield
    finally:
        BUDGET.reset(token)


def printed_size(value: Any) -> int:
    return BUDGET.get().size(value)


def counted_list(value: Iterable[Any]) -> list[Any]:
    """Return the items of an iterator as a list, one step an item."""
    found, own = [], BUDGET.get()
    for item in value:
        own.step(NODE)
        found.append(item)
    return found


class BudgetedNamespace(Namespace):
    """Jinja namespace that is never printed whole: nested namespaces could print without end."""

    def __repr__(self) -> str:
        return "<Namespace>"


class BudgetedCode(CodeGenerator):
    """Code generator that inserts step counting into a template's code."""

    def blockvisit(self, nodes_: Iterable[nodes.Node], frame: Frame) -> None:
        """Emit the statements of a block after a step that counts them and their text."""
        found = list(nodes_)
        text = [part for node in found if isinstance(node, nodes.Output) for part in node.nodes]
        chars = sum(len(part.data) for part in text if isinstance(part, nodes.TemplateData))
        self.writeline(f"environment.step({len(found) + chars})")
        super().blockvisit(found, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        self.__dict__.setdefault("iterated", set()).add(id(node.iter))
        super().visit_For(node, frame)

    def visit(self, node: nodes.Node, *args: Any, **named: Any) -> Any:
        if id(node) not in self.__dict__.get("iterated", ()):
            return super().visit(node, *args, **named)
        self.write("environment.iterated(")
        super().visit(node, *args, **named)
        self.write(")")
        return None

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenate(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


def _spent(name: str) -> Callable[..., None]:
    """Build a visitor whose expression result is measured by the environment."""
    plain = getattr(CodeGenerator, f"visit_{name}")

    def visit(self: CodeGenerator, node: nodes.Expr, frame: Frame) -> None:
        if PLAIN[name](node):
            plain(self, node, frame)
            return
        self.write("environment.spend(")
        plain(self, node, frame)
        self.write(")")

    return visit


def _compares_words(node: nodes.Compare) -> bool:
    """Return True if a comparison has a constant operand, so that its cost is small."""
    sides = [node.expr, *(op.expr for op in node.ops)]
    return any(isinstance(side, nodes.Const) for side in sides) and all(op.op in ("eq", "ne") for op in node.ops)


PLAIN: Mapping[str, Callable[[Any], bool]] = {  # expressions that are measured -> which of them need not be
    "Compare": _compares_words,
    "Getitem": lambda node: isinstance(node.arg, nodes.Const),
    "Tuple": lambda node: node.ctx != "load",
    "List": lambda node: False,
    "Dict": lambda node: False,
}
for _name in PLAIN:
    setattr(BudgetedCode, f"visit_{_name}", _spent(_name))


class BudgetedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with a budget for what its templates do."""

    code_generator_class = BudgetedCode
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(
            optimized=False, finalize=measured_output, **options
        )  # nothing is computed while it is compiled
        self.globals["namespace"] = BudgetedNamespace
        known: dict[str, Any] = {**self.filters, "sum": counted_sum}
        tests: dict[str, Any] = {**self.tests}
        filler: Any = self.globals["lipsum"]
        self.globals["lipsum"] = lorem_ipsum(filler)
        self.filters = {name: measured(name, call) for name, call in known.items()}
        self.tests.update({name: measured(name, tests[name]) for name in WATCHED_TESTS})

    def add_filter(self, name: str, call: Callable[..., Any]) -> None:
        """Replace a filter of Jinja."""
        self.filters[name] = measured(name, call)

    def step(self, made: int) -> None:
        BUDGET.get().step(made)

    def spend(self, value: Any) -> Any:
        return BUDGET.get().spend(value)

    def iterated(self, value: Any) -> Any:
        """Return the items of a loop, counted before its condition filters them."""
        own = BUDGET.get()
        own.steps -= len(value) // 8 if isinstance(value, Sized) else 0
        own.step()
        return value

    def concatenate(self, context: Context, parts: tuple[Any, ...]) -> str:
        """Concatenate values: Jinja's `~`."""
        refuse_over(sum(map(printed_size, parts)))
        return str(self.spend((markup_join if context.eval_ctx.autoescape else str_join)(parts)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:  # most often, and at most twice as long
            return BUDGET.get().spend(left + right)
        check_operator(operator, left, right, printed_size)
        return self.spend(super().call_binop(context, operator, left, right))

    def call(self, context: Context, call: Any, /, *args: Any, **named: Any) -> Any:
        if getattr(call, "__name__", None) in METHODS:
            args = check_method(call.__self__, call.__name__, args, named, counted_list)
        return self.spend(super().call(context, call, *args, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        plain = super().wrap_str_format(value)
        if plain is None:
            return None

        def wrapper(*args: Any, **named: Any) -> str:
            check_format(value.__self__, "{", (*args, *named.values()), printed_size)
            return plain(*args, **named)

        return wrapper


def measured(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter or test so that its arguments and result are measured."""
    skipped = 1 if getattr(call, "jinja_pass_arg", None) is not None else 0
    check = FILTERS.get(name)

    @wraps(call)
    def wrapper(*args: Any, **named: Any) -> Any:
        own = BUDGET.get()
        own.step()
        if name in EAGER and len(args) > skipped and isinstance(args[skipped], Iterator):
            args = (*args[:skipped], counted_list(args[skipped]), *args[skipped + 1 :])
        if check is not None:
            check(own.size, *args[skipped:], **named)
        return own.spend(call(*args, **named))

    return wrapper


@pass_environment
def counted_sum(environment: BudgetedEnvironment, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    """Jinja's `sum` filter with one step an addition, since lists can be added too."""
    take = make_attrgetter(environment, attribute) if attribute is not None else None
    for item in iterable:
        item = item if take is None else take(item)
        check_operator("+", start, item, printed_size)
        start = environment.spend(start + item)
    return start


@pass_context
def measured_output(context: Context, value: Any) -> Any:
    """Measure a value that the template prints."""
    own = BUDGET.get()
    own.step(len(value) if type(value) is str else own.size(value))
    return value
