"""`python -m limbeck.cli`, for launchers such as torchrun."""

from limbeck.cli import main

if __name__ == "__main__":
    main()
