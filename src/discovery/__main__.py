"""`python -m discovery` is the program `discovery`."""

from discovery.cli.main import main

raise SystemExit(main())
