"""`python -m warehouse_sync` is `warehouse-sync`."""

from warehouse_sync.cli.main import main

main()
