"""The one error that a user can mend; `lib.common.cli.run_main` turns it into exit code 2."""


class UserError(Exception):
    """Bad input, usage or environment.

    The message is one line that names the file, line or flag and says what to do about it. Of the
    processes of a run, `printed_by` prints it: the "first" of each machine (as all meet the same),
    "this", or "another" that has done so already.
    """

    printed_by = "first"
