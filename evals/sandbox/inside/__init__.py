"""What runs inside the sandbox: the standard library and these files, nothing else of the project.

The folder is shown to the sandbox on its own, so its files import each other relatively and nothing from above.

    server.py      first process: makes a judge for every program and clears up after it
    judge.py       runs the test and writes the verdict
    check_code.py  the test's names, and the line that failed
    questions.py   asks the program, and knows what each kind of reply means
    answerer.py    runs the program and answers calls; whatever it says is only an answer
    wire.py        plain values as bytes, read without trust
    plain.py       what a program returned, as plain values
    suspicions.py  what a reader of results should look at
    limits.py, seccomp.py, landlock.py, namespaces.py, kernel.py    what the kernel enforces
    look_around.py what this place can see and reach, for the self-test
"""
