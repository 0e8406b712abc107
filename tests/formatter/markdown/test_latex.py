"""Formulas as a reader sees them without LaTeX."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley_formatter.markdown.latex import to_unicode


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}", "x = (-b ± √(b²-4ac))/(2a)"),
        (r"\sum_{i=1}^{n} i = \frac{n(n+1)}{2}", "∑ᵢ₌₁ⁿ i = n(n+1)/2"),
        (r"\lim_{x \to 0} \frac{\sin x}{x} = 1", "lim_(x → 0) (sin x)/x = 1"),
        (r"P(A|B) = \frac{P(B|A)P(A)}{P(B)}", "P(A|B) = P(B|A)P(A)/P(B)"),
        (r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", "(a, b; c, d)"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a = b\nc = d"),
        (r"f=\begin{cases} x, & x>0 \\ 0, & x \le 0\end{cases}", "f={ x, x>0; 0, x ≤ 0 }"),
        (r"\int_0^\infty e^{-x^2}\,dx", "∫₀^∞ e^(-x²) dx"),
        (r"\mathbb{R}^n \ni \vec{v}", "ℝⁿ ∋ v⃗"),
        (r"\text{速度} = \frac{\text{路程}}{\text{时间}}", "速度 = 路程/时间"),
        (r"90^\circ", "90°"),
        (r"\left. \frac{1}{2} \right|", "1/2 |"),
        (r"\sqrt[3]{x+1} \sqrt2", "∛(x+1) √2"),
        (r"a \not= b \not\in C", "a ≠ b ∉ C"),
        (r"x_{1,2}, y_{max}, z^{*}", "x₁,₂, yₘₐₓ, z^*"),
        (r"\unknown{x} \% \{a\}", "unknown x % {a}"),
        (r"\binom{n}{k} \bmod 2", "C(n, k) mod 2"),
    ],
)
def test_formula_reads_well(source: str, expected: str) -> None:
    assert to_unicode(source) == expected


_PIECES = (
    "\\frac",
    "\\sqrt",
    "\\begin{a}",
    "\\end{a}",
    "\\left",
    "\\not",
    "\\text",
    "^",
    "_",
    "{",
    "}",
    "&",
    "\\\\",
    "x",
    " ",
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=60))
def test_no_formula_raises_or_keeps_braces_of_commands(pieces: list[str]) -> None:
    shown = to_unicode("".join(pieces))
    assert "\\frac" not in shown or pieces.count("{") > 12
