r"""LaTeX formulas as readable Unicode: `\frac{a+b}{2}` becomes `(a+b)/2`, `x^{2}` becomes `x²`.

Approximate by nature: what has no Unicode form keeps its words, so that a formula can always be read aloud. One
pass over the source with a depth cap; no input raises.
"""

from __future__ import annotations

import re

from parley_formatter.markdown import latex_symbols as symbols

_MAX_DEPTH = 12
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}^_&~]|\s+|[^\\{}^_&~\s]", re.DOTALL)
_LOOSE = frozenset("+-±∓=<>≤≥≠≈,/")
# One number, one letter with its index or power, one Chinese word, one root, one call such as P(B).
_SINGLE = re.compile(r"[0-9.]+|[^\W\d_][\u2070-\u209c²³ⁿ′!]*|[\u4e00-\u9fff]+|√?[^\W_]|∞|[^\W\d_]\([^()]*\)")
_ROW_ENVIRONMENTS = ("matrix", "array", "cases")
_BRACKETS = {
    "matrix": "[]", "bmatrix": "[]", "pmatrix": "()", "vmatrix": "||", "Vmatrix": "‖‖", "Bmatrix": "{}",
    "smallmatrix": "[]", "array": "[]",
}  # fmt: skip
_TIGHT = re.compile(r" {2,}")
_NEGATED = {"=": "≠", "∈": "∉", "⊂": "⊄", "⊆": "⊈", "≡": "≢", "∃": "∄", "∥": "∦", "<": "≮", ">": "≯"}
_BREAK = "\n"
_SCRIPTS = {"^": symbols.SUPERSCRIPT, "_": symbols.SUBSCRIPT}


def to_unicode(source: str) -> str:
    """Write a formula as text; line breaks of the formula are line breaks of the text."""
    text = _Reader(_TOKEN.findall(source)).sequence()
    lines = (_TIGHT.sub(" ", line).strip() for line in text.split(_BREAK))
    return _BREAK.join(line for line in lines if line)


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def sequence(self, stop: str = "") -> str:
        """Read up to a token, which is consumed, or to the end."""
        out: list[str] = []
        self._depth += 1
        while self._position < len(self._tokens):
            token = self._take()
            if token == stop:
                break
            if token in _SCRIPTS:
                out.append(_script(self.argument(), _SCRIPTS[token], token))
            else:
                out.append(self._read(token))
        self._depth -= 1
        return "".join(out)

    def argument(self) -> str:
        """Read one argument: a group or a single token."""
        while self._peek().isspace():
            self._position += 1
        token = self._take()
        return self._read(token) if token not in ("", "}", "^", "_") else ""

    def _read(self, token: str) -> str:
        if self._depth > _MAX_DEPTH:
            return token.strip("{}")
        match token[0]:
            case "{":
                return self.sequence("}")
            case "}":
                return ""
            case "&" | "~":
                return " "
            case "\\":
                return self._command(token[1:].rstrip("*") or "\\")
        return " " if token.isspace() else token

    def _command(self, name: str) -> str:
        if name == "\\":
            return _BREAK
        if name in symbols.SYMBOLS:
            return symbols.SYMBOLS[name]
        if name in symbols.INVISIBLE:
            return self._delimiter() if name in ("left", "right", "middle") else ""
        if name in symbols.TRANSPARENT:
            return self.argument()
        if name in symbols.FUNCTIONS:
            return name + ("" if self._peek() in ("(", "^", "_", "{", "") or self._peek().isspace() else " ")
        if name in symbols.ACCENTS:
            inner = self.argument()
            return inner + symbols.ACCENTS[name] if len(inner) == 1 else inner
        return self._structure(name)

    def _delimiter(self) -> str:
        """Drop the dot that stands for an invisible bracket."""
        if self._peek() == ".":
            self._position += 1
        return ""

    def _structure(self, name: str) -> str:
        match name:
            case "frac" | "dfrac" | "tfrac" | "cfrac":
                over, under = self.argument(), self.argument()
                return f"{_numerator(over)}/{_denominator(under)}"
            case "binom" | "dbinom" | "tbinom":
                return f"C({self.argument()}, {self.argument()})"
            case "sqrt":
                return self._root()
            case "begin":
                return self._environment(self.argument())
            case "overset" | "stackrel" | "underset":
                self.argument()
                return self.argument()
            case "end" | "color" | "textcolor" | "hspace" | "vspace" | "label":
                self.argument()
                return ""
        return self._small(name)

    def _small(self, name: str) -> str:
        """Read the commands that only rewrite their argument."""
        match name:
            case "mathbb":
                return "".join(symbols.BLACKBOARD.get(letter, letter) for letter in self.argument())
            case "not":
                inner = self.argument()
                return _NEGATED.get(inner, f"¬{inner}")
            case "pmod":
                return f" (mod {self.argument()})"
            case "bmod":
                return " mod "
            case "tag":
                return f"  ({self.argument()})"
        if len(name) == 1 and not name.isalpha():
            return symbols.PUNCTUATION.get(name, name)
        return f"{name} "

    def _root(self) -> str:
        degree = ""
        if self._peek() == "[":
            self._position += 1
            degree = self.sequence("]")
        sign = {"": "√", "3": "∛", "4": "∜"}.get(degree) or f"{_script(degree, symbols.SUPERSCRIPT, '^')}√"
        inner = self.argument()
        return sign + (inner if len(inner) == 1 else _wrap(inner))

    def _environment(self, name: str) -> str:
        """Read `\\begin{…}…\\end{…}`; a matrix becomes one line, aligned equations stay lines."""
        name = name.rstrip("*")
        if name == "array" and self._peek() == "{":
            self.argument()
        start = self._position
        level = 1
        while self._position < len(self._tokens) and level:
            level += {"\\begin": 1, "\\end": -1}.get(self._take(), 0)
        inside = self._tokens[start : self._position - (0 if level else 1)]
        if not level:
            self.argument()
        if self._depth > _MAX_DEPTH or not name.endswith(_ROW_ENVIRONMENTS):
            reader = _Reader(inside)
            reader._depth = self._depth
            return _BREAK + reader.sequence() + _BREAK
        rows = [_cells(row, self._depth) for row in _split(inside, "\\\\")]
        rows = [row for row in rows if any(row)]
        if name == "cases":
            return "{ " + "; ".join(", ".join(cell.rstrip(", ") for cell in row if cell) for row in rows) + " }"
        brackets = _BRACKETS.get(name, "[]")
        return brackets[0] + "; ".join(", ".join(row) for row in rows) + brackets[1]


def _cells(tokens: list[str], depth: int) -> list[str]:
    out = []
    for cell in _split(tokens, "&"):
        reader = _Reader(cell)
        reader._depth = depth
        out.append(reader.sequence().replace(_BREAK, " ").strip())
    return out


def _split(tokens: list[str], mark: str) -> list[list[str]]:
    """Split at a token, outside nested environments."""
    parts: list[list[str]] = [[]]
    level = 0
    for token in tokens:
        level += {"\\begin": 1, "\\end": -1}.get(token, 0)
        if token == mark and level == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _wrap(text: str) -> str:
    return text if text.startswith("(") and text.find(")") == len(text) - 1 else f"({text})"


def _numerator(text: str) -> str:
    """Put brackets around a sum; a product reads well without."""
    text = text.strip()
    depth = 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0 and (char.isspace() or char in _LOOSE):
            return f"({text})"
    return text


def _denominator(text: str) -> str:
    """Put brackets around everything that is not one number, letter, word or call."""
    text = text.strip()
    return text if _SINGLE.fullmatch(text) else _wrap(text)


def _script(text: str, table: dict[str, str], mark: str) -> str:
    """Raise or lower text where Unicode can; else keep the mark."""
    text = text.strip()
    small = text.replace(" ", "")
    if small in ("∘", "°"):
        return "°"
    if small and all(letter in table for letter in small):
        return "".join(table[letter] for letter in small)
    return f"{mark}{text}" if len(text) == 1 else f"{mark}({text})" if text else ""
