"""What LaTeX commands look like as Unicode. Data only."""

from __future__ import annotations

SYMBOLS: dict[str, str] = {
    # Greek
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "vartheta": "ϑ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν",
    "xi": "ξ", "pi": "π", "varpi": "ϖ", "rho": "ρ", "varrho": "ϱ", "sigma": "σ", "varsigma": "ς", "tau": "τ",
    "upsilon": "υ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω",
    # Operators
    "times": "×", "div": "÷", "pm": "±", "mp": "∓", "cdot": "·", "ast": "∗", "star": "⋆", "circ": "∘",
    "bullet": "•", "oplus": "⊕", "ominus": "⊖", "otimes": "⊗", "odot": "⊙", "wedge": "∧", "vee": "∨",
    "land": "∧", "lor": "∨", "neg": "¬", "lnot": "¬", "cap": "∩", "cup": "∪", "setminus": "∖", "sum": "∑",
    "prod": "∏", "coprod": "∐", "int": "∫", "iint": "∬", "iiint": "∭", "oint": "∮", "partial": "∂",
    "nabla": "∇", "bigcup": "⋃", "bigcap": "⋂", "bigoplus": "⨁", "bigotimes": "⨂", "surd": "√",
    # Relations
    "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠",
    "ll": "≪", "gg": "≫", "approx": "≈", "equiv": "≡", "sim": "∼", "simeq": "≃", "cong": "≅", "propto": "∝",
    "prec": "≺", "succ": "≻", "in": "∈", "notin": "∉", "ni": "∋", "subset": "⊂", "supset": "⊃",
    "subseteq": "⊆", "supseteq": "⊇", "subsetneq": "⊊", "perp": "⊥", "parallel": "∥", "mid": "|", "nmid": "∤",
    "vdash": "⊢", "models": "⊨", "triangleq": "≜", "doteq": "≐", "asymp": "≍", "lt": "<", "gt": ">",
    # Arrows
    "to": "→", "rightarrow": "→", "longrightarrow": "⟶", "leftarrow": "←", "gets": "←", "longleftarrow": "⟵",
    "leftrightarrow": "↔", "Rightarrow": "⇒", "Longrightarrow": "⟹", "implies": "⟹", "Leftarrow": "⇐",
    "impliedby": "⟸", "Leftrightarrow": "⇔", "iff": "⟺", "Longleftrightarrow": "⟺", "mapsto": "↦",
    "uparrow": "↑", "downarrow": "↓", "updownarrow": "↕", "hookrightarrow": "↪", "rightleftharpoons": "⇌",
    "xrightarrow": "→", "nearrow": "↗", "searrow": "↘",
    # Letters and signs
    "infty": "∞", "emptyset": "∅", "varnothing": "∅", "forall": "∀", "exists": "∃", "nexists": "∄", "hbar": "ℏ",
    "ell": "ℓ", "Re": "ℜ", "Im": "ℑ", "aleph": "ℵ", "wp": "℘", "angle": "∠", "triangle": "△", "square": "□",
    "blacksquare": "■", "checkmark": "✓", "degree": "°", "prime": "′", "dagger": "†", "therefore": "∴",
    "because": "∵", "top": "⊤", "bot": "⊥", "cdots": "⋯", "ldots": "…", "dots": "…", "vdots": "⋮", "ddots": "⋱",
    "dotsc": "…", "dotsb": "⋯", "copyright": "©", "pounds": "£", "S": "§", "backslash": "\\", "diamond": "⋄",
    # Brackets
    "langle": "⟨", "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "lbrace": "{",
    "rbrace": "}", "lvert": "|", "rvert": "|", "vert": "|", "lVert": "‖", "rVert": "‖", "Vert": "‖",
    "lbrack": "[", "rbrack": "]",
    # Spaces
    "quad": "  ", "qquad": "    ", "space": " ", "enspace": " ", "thinspace": " ",
}  # fmt: skip

# One-character commands: spaces and escaped signs.
PUNCTUATION: dict[str, str] = {",": " ", ";": " ", ":": " ", "!": "", " ": " ", "|": "‖", "\n": " "}

# Functions written upright.
FUNCTIONS: frozenset[str] = frozenset({
    "arccos", "arcsin", "arctan", "arg", "argmax", "argmin", "cos", "cosh", "cot", "coth", "csc", "deg", "det",
    "dim", "exp", "gcd", "hom", "inf", "ker", "lg", "lim", "liminf", "limsup", "ln", "log", "max", "min", "mod",
    "Pr", "sec", "sin", "sinh", "sup", "tan", "tanh", "tr", "rank",
})  # fmt: skip

# Commands that only change the look and vanish.
INVISIBLE: frozenset[str] = frozenset({
    "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl",
    "Biggr", "middle", "displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "nonumber", "notag",
    "hline", "mathstrut", "strut", "centering", "rm", "bf", "it", "cal",
})  # fmt: skip

# Commands whose argument is shown as it is.
TRANSPARENT: frozenset[str] = frozenset({
    "text", "textbf", "textit", "textrm", "texttt", "textsf", "textnormal", "mathrm", "mathbf", "mathit", "mathsf",
    "mathtt", "mathcal", "mathfrak", "mathscr", "boldsymbol", "bm", "pmb", "operatorname", "mbox", "hbox", "boxed",
    "fbox", "underline", "ensuremath", "mathop", "mathbin", "mathrel", "mathord", "phantom", "substack", "cancel",
    "overbrace", "underbrace", "smash",
})  # fmt: skip

BLACKBOARD: dict[str, str] = {
    "A": "𝔸", "B": "𝔹", "C": "ℂ", "D": "𝔻", "E": "𝔼", "F": "𝔽", "H": "ℍ", "I": "𝕀", "K": "𝕂", "N": "ℕ", "P": "ℙ",
    "Q": "ℚ", "R": "ℝ", "S": "𝕊", "T": "𝕋", "Z": "ℤ", "1": "𝟙",
}  # fmt: skip

# Accents: a combining mark behind a single letter.
ACCENTS: dict[str, str] = {
    "hat": "\u0302", "widehat": "\u0302", "bar": "\u0304", "overline": "\u0305", "vec": "\u20d7", "dot": "\u0307",
    "ddot": "\u0308", "tilde": "\u0303", "widetilde": "\u0303", "overrightarrow": "\u20d7", "check": "\u030c",
}  # fmt: skip

SUPERSCRIPT: dict[str, str] = dict(zip(
    "0123456789+-=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWαβγδθφχ′",
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵅᵝᵞᵟᶿᵠᵡ′", strict=True,
))  # fmt: skip
SUBSCRIPT: dict[str, str] = dict(zip(
    "0123456789+-=(),aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎,ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True,
))  # fmt: skip
