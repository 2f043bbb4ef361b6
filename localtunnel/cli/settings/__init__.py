"""The settings of both commands: from flags, environment and files into one checked
object.

Nothing is printed or started here: a wrong value is an exception that names its origin.
"""
