"""The error for what a user can fix; `lib.common.cli.run_main` turns it into exit code 2."""


class UserError(Exception):
    """Bad input, usage or environment.

    The message is one line that names the file, line or flag and says what to do about it.

    `printed_by` tells which process of a distributed run prints the message:
    - "first": the first process of each machine, since every process fails in the same way;
    - "this": the process that raised the error;
    - "another": none, since another process prints it.
    """

    printed_by = "first"
