"""`python -m engine …` is `rooms …`."""

from engine.cli import main

if __name__ == "__main__":
    main()
