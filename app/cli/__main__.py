"""`python -m app.cli`: how `run` and `demo` start the other commands, whatever is in PATH."""

from app.cli import main

if __name__ == "__main__":
    main(prog_name="stormfold")
