"""Files, flags, console lines and errors, for every command.

May import: nothing of the project.
"""
