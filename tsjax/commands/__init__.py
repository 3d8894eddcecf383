"""The commands, one file each: its arguments, and what it does.

A command is a module with `TEXT` (a line of help), `READS_CONFIG`, a function
`arguments(parser)` and a function `run(options, overrides, argv)` that returns
an exit code. What needs JAX is imported inside of `run`: --help and a mistyped
flag answer at once.
"""
