"""How LaTeX commands and Unicode signs are spelled plainly: the tables of `normalize`."""

from omr_data.verifiers.scanner import ITEM


def entries(text: str) -> list[str]:
    """The entries of a table that is written as text, set apart by spaces."""
    return text.split()


COMMANDS = dict(
    entry.split("=", 1)
    for entry in entries(r"""
times=* cdot=* ast=* div=/ le=<= leq=<= leqslant=<= ge=>= geq=>= geqslant=>= lt=< gt=> ne=!=
neq=!= approx=≈ simeq=≈ cong=≈ cup=∪ cap=∩ in=∈ infty=∞ emptyset=∅ varnothing=∅ pm=± mp=∓ mid=|
vert=| lvert=| rvert=| langle=( rangle=) lbrace=⦃ rbrace=⦄ lbrack=[ rbrack=] degree=° circ=°
colon=: percent=% dfrac=\frac tfrac=\frac cfrac=\frac frac=\frac sqrt=\sqrt prime=' alpha=α
beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε zeta=ζ eta=η theta=θ vartheta=θ iota=ι kappa=κ
lambda=λ mu=μ nu=ν xi=ξ pi=π rho=ρ sigma=σ tau=τ phi=φ varphi=φ chi=χ psi=ψ omega=ω Gamma=Γ
Delta=Δ Theta=Θ Lambda=Λ Omega=Ω Phi=Φ Sigma=Σ checkmark=✓ triangle=△ angle=∠ perp=⊥ parallel=∥
pounds=£
""")
)
"""What each command stands for in plain spelling."""
COMMANDS |= dict.fromkeys(entries("dots cdots ldots"), "\\ldots ")
COMMANDS |= dict.fromkeys(entries("rightarrow longrightarrow to"), "\\to ")
COMMANDS |= dict.fromkeys(entries("land wedge"), " and ") | dict.fromkeys(
    entries("lor vee"), " or "
)
COMMANDS |= dict.fromkeys(entries("quad qquad newline"), ITEM)
COMMANDS |= dict.fromkeys(
    entries("left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle limits !"), ""
)
COMMANDS |= dict.fromkeys(entries(", ; : >"), " ") | {" ": " ", "\n": " "}
# Formulas are marked by two control characters, which `normalize` removes again.
COMMANDS |= {"(": "\x02", "[": "\x02", ")": "\x03", "]": "\x03"}
COMMANDS |= {"$": "＄", "{": "⦃", "}": "⦄", "\\": "\\\\"} | {sign: sign for sign in "%#&_|"}

SIGNS: dict[str, str] = {}
"""What each Unicode sign stands for in plain spelling."""
for _plain, _signs in (
    ("-", "−–—﹣‐‑"),
    ("*", "×·⋅•∙✕"),
    ("/", "÷∕⁄"),
    ("<=", "≤⩽"),
    (">=", "≥⩾"),
    ("!=", "≠"),
    ("≈", "≃≅"),
    ("\\to ", "→"),
    (" ∅ ", "∅⌀"),
    ("°", "º˚"),
    (":", "∶"),
    ("'", "’‘"),
    ('"', "“”"),
    ("\\ldots ", "…⋯"),
    (", ", "、，"),
    ("; ", "；"),
    (". ", "。"),
    ("(", "（〈⟨"),
    (")", "）〉⟩"),
    ("[", "【"),
    ("]", "】"),
    ("\\mathbb{R}", "ℝ"),
    ("φ", "ϕ"),
    ("|", "∣"),
    (" ", "\xa0\u3000"),
):
    SIGNS |= dict.fromkeys(_signs, _plain)
