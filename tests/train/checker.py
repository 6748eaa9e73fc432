"""The type checker that checks tensor shapes in tests."""

from beartype import BeartypeConf, beartype

# An int is taken where a float is declared, as Python itself and mypy do.
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
