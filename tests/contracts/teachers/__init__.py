"""One example of each teacher, in a file with the name of the teacher's module.

A file defines `example`, a context manager that yields a teacher which can answer text questions
on this machine, for a short time and without a network. What it needs, such as a server on
127.0.0.1, is started before and stopped after. `example` may be marked for a tier with `tier`.

A teacher that needs an optional package defines `EXTRA` instead: its name is checked, and the
teacher itself is tested where the package is (tests/vllm).
"""
