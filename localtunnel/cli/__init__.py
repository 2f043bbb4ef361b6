"""The two commands: their docopt texts, their settings, what they print and how they
end.

=============  ======================================================================================
module         subject
=============  ======================================================================================
server.py      ``lt-server``
client.py      ``lt-client``
commands/      ``lt-client login``, ``lt-server tokens`` and the others that do one thing and end
settings/      flag > environment > file > default, into one typed object
usage.py       docopt, and readable messages where it gives none
migrants.py    the options of other tunnels, each with ours
program.py     from an exception to a sentence on stderr and an exit code
exit_codes.py  the exit codes
log.py         the log on stderr
output.py      what the client prints about its tunnel
writer.py      lines to stdout and stderr that never make the tunnel wait
amounts.py     sizes, durations, moments and rates, shown and parsed
clean.py       texts from elsewhere, made safe for a terminal
=============  ======================================================================================

``--help`` has to be quick, so these modules import libraries and other packages only
where they need them.
"""
