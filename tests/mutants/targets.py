"""Which fast tests hold which module. Paths may name files or folders; those that are missing are
left out, so that a test that moves does not stop a measurement of another module."""

TESTS: dict[str, tuple[str, ...]] = {
    "flow": ("tests/test_flow.py", "tests/operators/test_mix.py"),
    "identity": ("tests/identity", "tests/test_identity.py"),
    "syntax": ("tests/test_syntax.py",),
    "recipe": ("tests/recipe", "tests/test_recipe.py"),
    "plan": ("tests/plan", "tests/test_plan.py", "tests/test_recipe.py", "tests/test_identity.py"),
    "operators": (
        "tests/operators",
        "tests/contracts/test_operators.py",
        "tests/test_rollout_prompt.py",
        "tests/test_dedup.py",
        "tests/test_decontaminate.py",
        "tests/test_semantic.py",
        "tests/test_judge.py",
    ),
    "engine": ("tests/engine", "tests/contracts/test_step_shapes.py", "tests/operators"),
    "store": ("tests/store", "tests/test_store.py", "tests/test_rollout_store.py"),
    "release": ("tests/release", "tests/test_release.py"),
    "train/rewards": ("tests/train/test_rewards.py",),
    "train/losses": ("tests/train/test_losses.py",),
}
"""For each module (a file without `.py`, or a folder below omr_data), the tests that are run."""


def tests_of(module: str) -> tuple[str, ...]:
    """Returns the tests of a module: its own line, or that of the folder that it lies in."""
    at = module
    while at:
        if at in TESTS:
            return TESTS[at]
        at = at.rpartition("/")[0]
    raise SystemExit(f"tests/mutants/targets.py has no line for {module}: add one to TESTS.")
