"""The command line. One file per command; what they share is in `options`.

Exit codes, for every command: 0 done; 1 refused or failed; 2 wrong usage or an invalid file; 3 a file that a setting names
is missing or unfit. Results go to standard output, everything else to standard error, one problem on a line.
"""
