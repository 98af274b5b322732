"""One file per command: `make_parser()` and `main(argv)`. The only place that wires things together."""
