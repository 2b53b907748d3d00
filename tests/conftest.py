"""What all tests need of the process they run in."""

import signal

from hypothesis import settings

# The same examples in every run: a change is judged by what it changes. `pytest --hypothesis-profile=explore` draws new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("same")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: programs that tests start would inherit this and be deaf to interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
