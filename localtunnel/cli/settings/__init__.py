"""The settings of both commands: from flags, environment and files into one checked
object.

Nothing is printed here, and nothing is started: a wrong value is an exception that
names the place it came from.
"""
