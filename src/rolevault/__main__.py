"""``python -m rolevault``: the command line where its script is not on the PATH."""

from rolevault.cli.main import main

if __name__ == "__main__":
    main()
