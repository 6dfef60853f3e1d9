"""What every process of a run needs: command line, log, signals, cluster, layout, text files."""
