"""Storage: aggregates, volumes, qtrees, LUNs, snapshots, and the file system that presents them."""
