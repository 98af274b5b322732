"""The `trl-mm` command line: finds the script of a command and runs it, here or through `accelerate launch`."""
