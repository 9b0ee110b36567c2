"""`sidecar` and `python -m sidecar`."""

import signal


def main() -> None:
    # Before the imports that take long: whoever interrupts a command is not answered with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sidecar.cli.root import main as command

    command()


if __name__ == "__main__":
    main()
