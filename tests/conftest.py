"""What all tests need of the process they run in."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: programs that tests start would inherit this and be deaf to interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
