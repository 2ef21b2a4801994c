"""A program that is killed as it touches a file: `python tests/watched.py FOLDER NUMBER main.py ...`.

Before what it does NUMBERth to a file in the folder (open to write, rename, remove, make or remove a folder) it kills itself; with
NUMBER 0 it lives, and its last line of standard error says how often that was.
"""

import os
import runpy
import signal
import sys

TOUCHES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}  # replace, unlink and makedirs are among them


def main():
    folder, number, *sys.argv = sys.argv[1:]
    touched, end = 0, int(number)

    def watch(event, arguments):
        nonlocal touched
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in TOUCHES) and str(arguments[0]).startswith(folder):
            touched += 1
            if touched == end:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        print(f"\n{touched}", file=sys.stderr)


if __name__ == "__main__":
    main()
