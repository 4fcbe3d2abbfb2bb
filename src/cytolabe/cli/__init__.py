"""The command line: parse, call the flow, print, exit code. Nothing heavy is imported before a command runs."""
