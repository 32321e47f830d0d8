"""What the command line runs: one module a subcommand, each with ``main(arguments)``; the scripts run the same code."""
