"""`python -m omr_data.cli`, which torchrun needs: it starts a module and not a console script."""

from omr_data.cli.app import main

if __name__ == "__main__":
    main()
