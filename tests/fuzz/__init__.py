"""Fuzzing: what a stranger sends, and what a settings file holds, made up by atheris for as long as it is let.

targets            the table: each target by its name, with its seeds
protocol_targets   frames, messages, logins, tokens, streams over TLS
http_targets       requests, responses, the PROXY protocol, the options of tunnels
file_targets       settings, and the files that the programs keep
seeds              where the search begins: tests/data/corpus, tests/data/vectors, conf
__main__           ``make fuzz``

A target is a function of bytes. It may raise nothing: the errors that its subject promises are caught in it, and any
other exception is a finding, an AssertionError about a property that does not hold among them. ``test_fuzz.py``
runs each target over its seeds without atheris, so that a finding that was kept as a seed stays mended.
"""
