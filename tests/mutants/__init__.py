"""Mutation testing: changes the code in small ways and counts the changes that tests notice.

    make mutants MODULE=operators N=150

**Mutant**: one file of the package with one small change, such as `<` in place of `<=`. The
changes are those of mutmut (`mutmut.mutation.mutators`), and libcst writes them into the source.
**Killed**: a test fails, or the run takes too long. **Survivor**: every test passes. A survivor is
a missing test, or an equivalent: a change that no caller can observe, listed in `equivalent.toml`.

mutmut's own runner puts all mutants of a file behind trampolines. That leaves out decorated
functions, such as every property, and does not reach the worker processes that the engine starts.
Here each mutant is written into a copy of the repository, so every process of a test imports it.
"""
