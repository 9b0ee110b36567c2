"""The sidecar and its peers, side by side in one run: what each costs in CPU time and memory. `python -m bench --help`."""
